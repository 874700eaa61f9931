"""How long does a page take? listRepos over a million accounts and listHosts over 3,000 hosts.

A real PostgreSQL, the broadcaster's own statements and answers; a page is measured from the question to
the bytes of its JSON. Two accounts in five have no commit yet, 300,000 of them one behind the other, as
after the first reading of a large host: no cursor may be slow.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib import resources
from typing import Any, Final, LiteralString

import orjson
import psycopg

from broadcast.store import Store
from broadcast.xrpc import hosts_answer, repos_answer
from tests.fix_postgres import Postgres

ACCOUNTS: Final = 1_000_000
HOSTS: Final = 3_000
LIMITS: Final = (500, 1000)
ROUNDS: Final = 60
TRIES: Final = 3
"""Of each page, the best counts: the worst is then a cursor's, not that of a busy machine."""
WANTED_MS: Final = 20.0
_FILL: Final[tuple[LiteralString, ...]] = (
    """
    INSERT INTO host (hostname, cursor, account_limit, connected, accounts)
    SELECT 'pds-' || n || '.example', n, 100, true, n FROM generate_series(1, %(hosts)s) AS n
    """,
    """
    INSERT INTO account (did, host_id, active, rev, commit_cid, data_cid, seq)
    SELECT 'did:plc:' || substr(md5(n::text), 1, 24), 1 + n %% %(hosts)s, true,
        CASE WHEN is_listed THEN '3l2gkqkqxcc2a' END,
        CASE WHEN is_listed THEN '\\x01711220'::bytea || sha256(n::text::bytea) END,
        CASE WHEN is_listed THEN '\\x01711220'::bytea || sha256(n::text::bytea) END, n
    FROM (
        SELECT n, n %% 7 <> 0 AND (n < 400000 OR n >= 700000) AS is_listed
        FROM generate_series(1, %(accounts)s) AS n
    ) AS numbers
    """,
)
_ALIVE: Final[LiteralString] = """
    UPDATE account SET rev = rev || '', seq = seq + 1 WHERE id %% 10 = %(of)s AND rev IS NOT NULL
"""
"""What commits do to the table, a tenth of the accounts each time."""


def measure() -> dict[str, Any]:
    """Milliseconds of pages, by method and limit: median and worst; and of the pages as they are followed."""
    server = Postgres()
    try:
        server.start()
        with psycopg.connect(server.url, autocommit=True) as database:
            database.execute(resources.files("common").joinpath("schema.sql").read_text())
            for statement in _FILL:
                database.execute(statement, {"hosts": HOSTS, "accounts": ACCOUNTS})
            for tenth in range(3):
                database.execute(_ALIVE, {"of": tenth})
            database.execute("ANALYZE")
        return asyncio.run(_measure(server.url))
    finally:
        server.remove()


async def _measure(url: str) -> dict[str, Any]:
    store = Store(url)
    await store.open()
    luck = random.Random(1)
    found: dict[str, Any] = {}
    try:
        for limit in LIMITS:
            cursors = [0, 399_000, 400_001, 699_999, ACCOUNTS - 10]
            cursors += [luck.randrange(ACCOUNTS) for _ in range(ROUNDS)]

            async def repos(cursor: int, limit: int = limit) -> Any:
                return repos_answer(await store.accounts(cursor, limit + 1), limit)

            found[f"listRepos {limit}"] = await _times(repos, cursors)
        cursors = [0, HOSTS // 2, *[luck.randrange(HOSTS) for _ in range(ROUNDS)]]

        async def hosts(cursor: int) -> Any:
            return hosts_answer(await store.hosts(cursor, 1001), 1000)

        found["listHosts 1000"] = await _times(hosts, cursors)

        async def host(number: int) -> Any:
            return await store.host_data(f"pds-{1 + number}.example")

        found["/hosts/NAME"] = await _times(host, cursors)
    finally:
        await store.close()
    return found


async def _times(page: Callable[[int], Awaitable[Any]], cursors: list[int]) -> dict[str, float]:
    await page(cursors[0])  # the connection is made, the statement is known
    taken_ms = []
    for cursor in cursors:
        tries_ms = []
        for _ in range(TRIES):
            began = time.perf_counter()
            orjson.dumps(await page(cursor))
            tries_ms.append((time.perf_counter() - began) * 1e3)
        taken_ms.append(min(tries_ms))
    return {"median": statistics.median(taken_ms), "worst": max(taken_ms)}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The figures for people."""
    yield f"| a page, {ACCOUNTS:,} accounts and {HOSTS:,} hosts | median, ms | worst, ms | wanted, ms |"
    yield "| --- | --- | --- | --- |"
    for name, taken in found.items():
        yield f"| {name} | {taken['median']:.1f} | {taken['worst']:.1f} | ≤ {WANTED_MS:g} |"
