"""Does a story that goes wrong say so, whatever it leaves behind?"""

from __future__ import annotations

import asyncio

import pytest

from tests.fix_loop import LoopRun


async def listen() -> None:
    await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_story_that_fails_behind_an_open_server_ends_with_its_own_error(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        await listen()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop_run(story())


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_story_that_leaves_a_server_open_fails(loop_run: LoopRun) -> None:
    with pytest.raises(AssertionError, match="TCPServer"):
        loop_run(listen())
