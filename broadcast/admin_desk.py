"""Where is an operator's request to the database worked off, without the stream noticing?

    request ─▶ a thread of a few ─▶ one connection ─▶ ControlPlane, AdminStore ─▶ answer
                     └─▶ too many wait, or too long: 503

A connection for each request: operators are few, and what one of them has done is done when he is
told so. Each step has a time limit, so that no thread is held by a database that is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

import psycopg

from broadcast.admin_store import AdminStore
from broadcast.admin_words import AdminError
from broadcast.config import STATEMENT_TIMEOUT_MS
from common.control import ControlPlane, StillBanned, UnknownHost
from common.database import options

DESKS: Final = 4
"""Requests that are worked off at once."""
QUEUE: Final = 32
"""Requests that may wait for that."""
CONNECT_S: Final = 3
WITHIN_S: Final = 10.0
"""How long a request may take with waiting, in seconds."""
_log: Final = logging.getLogger("standpipe")
_T = TypeVar("_T")


class Desk(NamedTuple):
    """What one request works with."""

    control: ControlPlane
    store: AdminStore


class Desks:
    """A few threads for what operators ask."""

    def __init__(self, database_url: str) -> None:
        """Opens nothing."""
        self._url = database_url
        self._pool = ThreadPoolExecutor(DESKS, thread_name_prefix="admin")
        self._busy = 0

    def close(self) -> None:
        """Take nothing more; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def do(self, who: str, work: Callable[[Desk], _T]) -> _T:
        """Have `work` done in a thread; it may call what blocks. who: for the audit log.

        Raises:
            AdminError: as `work` does; 404 for a host that is not known; 503 where the database is
                away, or too much is waiting.
        """
        if self._busy >= DESKS + QUEUE:
            raise AdminError(503, "too many admin requests are waiting")
        self._busy += 1
        doing = asyncio.get_running_loop().run_in_executor(self._pool, self._work, who, work)
        doing.add_done_callback(self._done)
        try:
            # The thread ends by its own time limits; what it was told to do may still be done.
            return await asyncio.wait_for(asyncio.shield(doing), WITHIN_S)
        except TimeoutError:
            raise AdminError(503, "the database takes too long") from None
        except UnknownHost as error:
            raise AdminError(404, f"{error} is not known here") from None
        except StillBanned as error:
            raise AdminError(400, str(error)) from None
        except (psycopg.Error, OSError) as error:
            _log.warning("admin request: the database", extra={"fields": {"error": str(error)}})
            raise AdminError(503, "the database does not answer") from None

    def _done(self, doing: asyncio.Future[Any]) -> None:
        self._busy -= 1
        if not doing.cancelled():
            doing.exception()  # told to whoever waited; nobody may be left who does

    def _work(self, who: str, work: Callable[[Desk], _T]) -> _T:
        with psycopg.connect(
            self._url,
            autocommit=True,
            **options("admin")
            | {
                "connect_timeout": CONNECT_S,
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            },
        ) as connection:
            return work(Desk(ControlPlane(connection, who), AdminStore(connection)))
