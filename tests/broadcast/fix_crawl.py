"""A relay that is asked to crawl: the request on a real socket, and the table of hosts behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from broadcast.crawl import Rules
from tests.broadcast.fakes import FakeLog, Member, member_of
from tests.broadcast.fix_pds import Pds
from tests.broadcast.raw import Raw, Response

PATH = "/xrpc/com.atproto.sync.requestCrawl"
OPEN = Rules(allow_insecure=True, per_day=50, account_limit=77)
PUBLIC = Rules(per_day=50)


@pytest.fixture
def database(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """An empty table of hosts."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(resources.files("common").joinpath("schema.sql").read_text())
        yield connection


@pytest.fixture
def url(database: psycopg.Connection[Any], postgres_url: str) -> str:
    """Of that database."""
    del database
    return postgres_url


class Said(NamedTuple):
    status: int
    body: dict[str, Any]
    retry_after: str | None

    @property
    def error(self) -> str | None:
        return self.body.get("error")

    @property
    def message(self) -> str:
        return str(self.body["message"])


async def post(
    member: Member,
    body: Any,
    *,
    host: str = "relay.example",
    more: str = "",
    piece: int | None = None,
) -> Said:
    raw = await Raw.to(member.port)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n{more}\r\n"
    await raw.send(head.encode() + data, piece)
    response: Response = await raw.response()
    raw.cut()
    assert response.headers["content-type"] == "application/json"
    return Said(response.status, json.loads(response.body), response.headers.get("retry-after"))


async def crawl(member: Member, name: str, **more: Any) -> Said:
    return await post(member, {"hostname": name}, **more)


@asynccontextmanager
async def relay(
    folder: Path, url: str, rules: Rules = OPEN, proxies: tuple[str, ...] = ()
) -> AsyncIterator[Member]:
    async with member_of(
        FakeLog(), folder, database_url=url, crawl=rules, trusted_proxies=proxies
    ) as member:
        yield member


def rows(database: psycopg.Connection[Any], what: str = "hostname") -> list[Any]:
    found = database.execute(f"SELECT {what} FROM host ORDER BY id".encode()).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def put(database: psycopg.Connection[Any], hostname: str, **more: Any) -> None:
    values = {"hostname": hostname, "account_limit": 100, **more}
    names = ", ".join(values)
    marks = ", ".join(f"%({name})s" for name in values)
    database.execute(f"INSERT INTO host ({names}) VALUES ({marks})".encode(), values)


def traces(database: psycopg.Connection[Any]) -> list[Any]:
    """All that a request could have written."""
    return [
        database.execute(query).fetchall()
        for query in (
            "SELECT * FROM host ORDER BY id", "SELECT * FROM audit", "SELECT * FROM relay",
        )
    ]  # fmt: skip


def body_of(host: Pds) -> bytes:
    return json.dumps({"hostname": host.name}).encode()
