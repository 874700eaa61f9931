"""How do thousands of askers cost the database one question? An answer is shared while it is young.

    ask(key) ─▶ young enough? ─▶ the same again
                    └─ no ─▶ one question, for all who ask meanwhile

Bounded in answers; an error is given to those who waited for it, and kept for nobody.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

KEPT_S: Final = 0.5
"""So old may an answer be, in seconds: what an operator does shows within a second."""
MOST: Final = 1_000
"""Answers that are kept."""


class Recent(Generic[T]):
    """The answers to one kind of question."""

    def __init__(self, *, kept_s: float = KEPT_S, most: int = MOST) -> None:
        self._kept_s = kept_s
        self._most = most
        self._answers: OrderedDict[Hashable, tuple[float, asyncio.Task[T]]] = OrderedDict()

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[T]]) -> T:
        """The answer, no older than `kept_s`. Raises: what `question` raises."""
        now_s = asyncio.get_running_loop().time()
        known = self._answers.get(key)
        if known is not None and not _is_over(known, now_s, self._kept_s):
            return await asyncio.shield(known[1])
        task = asyncio.ensure_future(_asked(question))
        task.add_done_callback(_seen)
        self._answers[key] = now_s, task
        self._answers.move_to_end(key)
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)
        # Who asked may go away; the others still want to know.
        return await asyncio.shield(task)


async def _asked(question: Callable[[], Awaitable[T]]) -> T:
    return await question()


def _seen(task: asyncio.Task[T]) -> None:
    """Whoever waited was told of an error; where nobody did, it is no fault of the loop's."""
    if not task.cancelled():
        task.exception()


def _is_over(known: tuple[float, asyncio.Task[T]], now_s: float, kept_s: float) -> bool:
    began_s, task = known
    if not task.done():
        return False
    return now_s - began_s > kept_s or task.cancelled() or task.exception() is not None
