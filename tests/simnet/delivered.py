"""Which events has a consumer been given so far? What a test waits for before it goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.simnet.consumer import Consumer
from tests.simnet.network import Network
from tests.simnet.truth import Key, key_of, open_frame


class Delivered:
    """The frames of one consumer in order, and which events they are.

    Hand `keep` to the Consumer.
    """

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self._keys: set[Key] = set()

    def keep(self, frame: bytes) -> None:
        """Take one frame."""
        self.frames.append(frame)
        kind, body = open_frame(frame)
        if kind != "info":
            self._keys.add(key_of(kind, body))

    def everything(self, network: Network) -> Callable[[], bool]:
        """Whether all valid events that had been said when this was asked have come."""
        missing = {entry.key for entry in network.truth.valid}

        def come() -> bool:
            missing.difference_update(self._keys)
            return not missing

        return come

    def settles(
        self, network: Network, consumer: Consumer, deadline_s: float
    ) -> Callable[[], Awaitable[None]]:
        """What `Network.settled` takes: wait until everything said so far has come."""

        async def settled() -> None:
            await consumer.wait_for(self.everything(network), deadline_s)

        return settled
