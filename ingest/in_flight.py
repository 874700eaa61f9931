"""What was sent to persist and is not answered yet?

Each verdict leaves under a position of its own and names the state that it was reached against.
Until the answer comes the event is kept here, as it was sent: a persist that begins anew is told
everything again, in order. What the answers mean is ingest.pipeline's.

No I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Callable

from common.envelope import Judged, base_of
from ingest.account import Account, Pending
from ingest.judge import Accept


class InFlight:
    """The events of one process that are in flight. bytes: what they take."""

    def __init__(self, send: Callable[[Judged, bytes], None]) -> None:
        """Args: send: one event and its frame."""
        self._send = send
        self._position = 0
        self._sent: dict[int, Pending] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    def send(self, pending: Pending, verdict: Accept, distance_s: float) -> None:
        """An event goes out, and its account's state moves on.

        Args: distance_s: how far the system's clock is ahead of the steady one.
        """
        account, event, feed = pending.account, pending.event, pending.feed
        self._position += 1
        judged = Judged(
            self._position,
            feed.shard,
            feed.epoch,
            event.kind,
            feed.source.host,
            feed.generation,
            event.seq,
            event.did,
            base_of(account.state),
            verdict.after,
            event.seq_start,
            event.seq_end,
            account.recall,
            int((pending.received_s + distance_s) * 1e6),
            verdict.marks,
        )
        account.state = verdict.after
        account.in_flight += 1
        pending.judged = judged
        pending.waived = verdict.waived
        self._sent[self._position] = pending
        self.bytes += pending.size
        self._send(judged, event.raw)

    def answered(self, position: int) -> Pending | None:
        """The event of this position, which is in flight no longer; None when it was not."""
        pending = self._sent.pop(position, None)
        if pending is not None:
            pending.account.in_flight -= 1
            self.bytes -= pending.size
        return pending

    def recalling(self) -> set[Account]:
        """The accounts of which something is in flight, and something came back already."""
        return {pending.account for pending in self._sent.values() if pending.account.recalled}

    def withdraw(self) -> list[Pending]:
        """The events of released hosts, which are in flight no longer, whatever persist answers."""
        released = [at for at, pending in self._sent.items() if pending.feed.released]
        return [pending for at in released if (pending := self.answered(at)) is not None]

    def unanswered(self) -> list[tuple[Judged, bytes]]:
        """Everything in flight, in order of position."""
        return [
            (pending.judged, pending.event.raw)
            for pending in self._sent.values()
            if pending.judged is not None
        ]
