"""An event loop for a test: once plain asyncio, once uvloop, with asyncio's debug checks on.

def test_something(loop_run: LoopRun) -> None:
    loop_run(story())
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import pytest
import uvloop

_T = TypeVar("_T")
DEADLINE_S = 240.0
"""No story takes longer; what hangs fails here, in seconds."""


class LoopRun(Protocol):
    """Runs one coroutine to its end in a loop of its own."""

    def __call__(self, story: Coroutine[Any, Any, _T], deadline_s: float = DEADLINE_S) -> _T:
        """Raises: TimeoutError: it took longer than `deadline_s`."""


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_run(request: pytest.FixtureRequest) -> LoopRun:
    """`loop_run(coroutine)` on each of the two loops; fails on tasks that raised unseen."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = (
        uvloop.new_event_loop if request.param == "uvloop" else None
    )

    def run(story: Coroutine[Any, Any, _T], deadline_s: float = DEADLINE_S) -> _T:
        unseen: list[dict[str, Any]] = []

        async def within() -> _T:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: unseen.append(context))
            async with asyncio.timeout(deadline_s):
                return await story

        runner = asyncio.Runner(loop_factory=factory, debug=True)
        try:
            result = runner.run(within())
        finally:
            left = _close(runner)
        assert not unseen, unseen
        assert not left, left
        return result

    return run


def _close(runner: asyncio.Runner) -> list[str]:
    """End the loop → what was left open in it, in words.

    uvloop warns of each such thing before it closes it. Where that raises, as all warnings do in tests, it
    does not, and waits for it for ever: a story that fails behind an open server would never say so.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        runner.close()
    return [str(warning.message) for warning in said]
