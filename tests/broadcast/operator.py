"""An operator at a broadcaster: requests as the usual command-line tool writes them, and what came of them."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any, Final

import psycopg

from broadcast.admin_api import Setup
from tests.broadcast.fakes import FakeLog, Member, member_of
from tests.broadcast.raw import Raw, Response

PASSWORD: Final = "open:sésame"
BASIC: Final = "Basic " + b64encode(f"admin:{PASSWORD}".encode()).decode()
DIDS: Final = [f"did:plc:{letter * 24}" for letter in "abcdef"]


def fill(url: str) -> None:
    """Three hosts and four accounts, in a new database."""
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(resources.files("common").joinpath("schema.sql").read_bytes())
        for name, cursor, limit, connected, accounts in (
            ("one.example", 17, 100, True, 2),
            ("sub.two.example", None, 5000, False, 1),
            ("localhost:2583", 0, 100, False, 0),
        ):
            database.execute(
                "INSERT INTO host (hostname, cursor, account_limit, connected, accounts, observed,"
                " events) VALUES (%s, %s, %s, %s, %s, 'active', 42)",
                (name, cursor, limit, connected, accounts),
            )
        for did, host in zip(DIDS, (1, 1, 2, 0), strict=False):
            database.execute(
                "INSERT INTO account (did, host_id, active, seq) VALUES (%s, %s, true, 1)",
                (did, host),
            )


class Operator:
    """Somebody who knows the password."""

    def __init__(self, member: Member, authorization: str | None = BASIC) -> None:
        self.member = member
        self.authorization = authorization

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: tuple[str, ...] = (),
        port: int | None = None,
    ) -> Response:
        """One request on a connection of its own, its lines in the order in which Go writes them."""
        lines = [f"{method} {path} HTTP/1.1", "Host: relay:2470", "User-Agent: tool/1.0"]
        if method == "POST":
            lines.append(f"Content-Length: {len(body or b'')}")
        if self.authorization is not None:
            lines.append(f"Authorization: {self.authorization}")
        if body is not None and not any(h.lower().startswith("content-type") for h in headers):
            lines.append("Content-Type: application/json")
        lines += [*headers, "Accept-Encoding: gzip", "", ""]
        raw = await Raw.to(port or self.member.port)
        await raw.send("\r\n".join(lines).encode() + (body or b""))
        response = await raw.response()
        raw.cut()
        return response

    async def get(self, path: str) -> Any:
        """The value that a path has."""
        response = await self.ask("GET", path)
        assert response.status == 200, response
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        return json.loads(response.body)

    async def post(self, path: str, value: Any = None, **more: Any) -> Any:
        """What a change is answered with."""
        body = None if value is None else json.dumps(value).encode()
        response = await self.ask("POST", path, body, **more)
        assert response.status == 200, response
        return json.loads(response.body)

    async def refused(self, method: str, path: str, value: Any = None) -> tuple[int, str]:
        """Status and words of a refusal."""
        body = value if isinstance(value, bytes) else None
        if body is None and value is not None:
            body = json.dumps(value).encode()
        response = await self.ask(method, path, body)
        told = json.loads(response.body)
        assert isinstance(told["error"], str), told
        return response.status, told["error"]


@contextlib.asynccontextmanager
async def operated(
    folder: Path, url: str, *, setup: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Operator]:
    """A broadcaster with a filled database, and its operator."""
    admin = Setup(**{"passwords": ("older", PASSWORD), **(setup or {})})
    async with member_of(FakeLog(), folder, database_url=url, admin=admin, **more) as member:
        yield Operator(member)
