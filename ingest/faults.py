"""What ends the process when a callback of the loop raises? asyncio alone would only tell the log.

A host's connection that breaks in a callback is no fault of ours; whatever else is raised there is.
"""

from __future__ import annotations

import asyncio
from typing import Any


async def stay_sound() -> None:
    """Wait until a callback of the running loop raises.

    Raises:
        Exception: what was raised there.
    """
    loop = asyncio.get_running_loop()
    fault: asyncio.Future[None] = loop.create_future()
    previous = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception) and not isinstance(error, OSError):
            if not fault.done():
                fault.set_exception(error)
        elif previous is not None:
            previous(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    try:
        await fault
    finally:
        loop.set_exception_handler(previous)
