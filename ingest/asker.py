"""How is a table asked, so that one that does not answer holds up nothing?

    loop ── question ──▶ one thread ──▶ the table and its connection, which no other thread touches
    loop ◀── what it gives or raises ──┘

Whoever asks may be cancelled while the answer is on its way; the connection is closed by the thread, once
the table has answered, and not under its hands. Source: lesson 35.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")


class Asker:
    """A thread that asks one question after the other. Nobody waits for its end: it may hang."""

    def __init__(self, name: str, close: Callable[[], None]) -> None:
        """Call from within the loop. close: called by the thread at its end."""
        self._loop = asyncio.get_running_loop()
        self._close = close
        self._questions: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None]
        self._questions = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def ask(self, question: Callable[[], _T]) -> _T:
        """What the question gives or raises, in its turn."""
        answer: asyncio.Future[_T] = self._loop.create_future()
        self._questions.put((question, answer))
        return await answer

    def end(self) -> None:
        """Ask no more, and let go of the table once it has answered."""
        self._questions.put(None)

    def _run(self) -> None:
        try:
            while (asked := self._questions.get()) is not None:
                question, answer = asked
                try:
                    found = question()
                except BaseException as error:  # noqa: BLE001 - told to who asked
                    self._tell(answer, None, error)
                else:
                    self._tell(answer, found, None)
        finally:
            self._close()

    def _tell(self, answer: asyncio.Future[Any], found: Any, error: BaseException | None) -> None:
        # A loop that has ended hears nothing any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle, answer, found, error)


def _settle(answer: asyncio.Future[Any], found: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(found)
    else:
        answer.set_exception(error)
