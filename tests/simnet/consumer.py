"""What does a consumer of a stream get? A websockets client that collects frames and reconnects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

import cbor2
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.simnet.events import ERROR_HEADER
from tests.simnet.truth import UNREADABLE, open_frame


class Consumer:
    """Reads one stream into `frames`, going on after the last `seq` when it is cut.

    cursor: where to start; None: live. After a break it is the last number received; since a
        relay's cursor is inclusive and a host's is not, the first frame after a break is left out
        when it has that number. No other repetition is hidden.
    frames: complete messages in the order received, `#info` and unreadable ones among them.
    errors: payloads of error frames. breaks: how often the connection ended.
    """

    def __init__(
        self,
        url: str,
        cursor: int | None = 0,
        *,
        tls: ssl.SSLContext | None = None,
        retry_s: float = 0.05,
        keep: Callable[[bytes], None] | None = None,
    ) -> None:
        self.frames: list[bytes] = []
        self.errors: list[dict[str, object]] = []
        self.breaks = 0
        self.cursor = cursor
        self._url = url
        self._tls = tls
        self._retry_s = retry_s
        self._keep = keep or self.frames.append
        self._resumed = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.opened = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def wait_for(self, enough: Callable[[], bool], deadline_s: float = 30.0) -> None:
        """Return as soon as `enough()`; it is asked again after every frame.

        Raises:
            TimeoutError: not within the deadline (seconds), or the reading failed.
        """
        async with asyncio.timeout(deadline_s):
            while not enough():
                if self._task is not None and self._task.done():
                    self._task.result()
                self._news.clear()
                await self._news.wait()

    async def wait_count(self, count: int, deadline_s: float = 30.0) -> None:
        """Return as soon as so many frames are there.

        Raises:
            TimeoutError: not within the deadline (seconds).
        """
        await self.wait_for(lambda: len(self.frames) >= count, deadline_s)

    async def _run(self) -> None:
        while True:
            separator = "&" if "?" in self._url else "?"
            suffix = "" if self.cursor is None else f"{separator}cursor={self.cursor}"
            try:
                async with connect(
                    self._url + suffix,
                    ssl=self._tls,
                    compression=None,
                    max_size=None,
                    ping_interval=None,
                    close_timeout=0.5,
                ) as connection:
                    self.opened.set()
                    self._resumed = self.breaks > 0
                    async for message in connection:
                        self._take(message)
            except (OSError, ConnectionClosed, InvalidHandshake, EOFError):
                pass
            self.breaks += 1
            self._news.set()
            await asyncio.sleep(self._retry_s)

    def _take(self, message: str | bytes) -> None:
        self._news.set()
        if isinstance(message, str):
            message = message.encode()
        if message.startswith(ERROR_HEADER):
            self.errors.append(cbor2.loads(message[len(ERROR_HEADER) :]))
            return
        try:
            seq = open_frame(message)[1].get("seq")
        except UNREADABLE:
            seq = None
        if seq is not None:
            again = self._resumed and seq == self.cursor
            self._resumed = False
            self.cursor = seq
            if again:
                return
        self._keep(message)
