"""How does a request of the admin API come in, and how does its answer go out?

    request ─▶ gate (429) ─▶ password (401) ─▶ body ─▶ Plan ─▶ work at a desk ─▶ answer
                                                                     └─▶ sibling relays

A plan reads what was asked, so that what makes no sense costs no connection to the database; what it
returns is done at a desk, or awaited. Errors have the reference relay's form, `{"error": text}`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from math import ceil
from typing import Any, Final, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broadcast import metrics
from broadcast.admin import CHALLENGE, may_enter
from broadcast.admin_desk import Desk, Desks
from broadcast.admin_gate import Gate
from broadcast.admin_words import AdminError, Params
from broadcast.client import Clients
from broadcast.siblings import Siblings, is_forwarded
from broadcast.store import Away
from broadcast.xrpc import XrpcError
from common.process import SAY_AGAIN_S

_log: Final = logging.getLogger("standpipe")
_PRIVATE: Final = "the private port"
"""Who comes there passes by no proxy; strangers cannot spoil it for the other broadcasters."""


class Result(StrEnum):
    """What came of a request; the label of a metric."""

    DONE = "done"
    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    LIMITED = "limited"
    AWAY = "away"
    FAULT = "fault"


_RESULTS: Final = {
    200: Result.DONE, 401: Result.UNAUTHORIZED, 403: Result.REFUSED, 404: Result.UNKNOWN,
    429: Result.LIMITED, 503: Result.AWAY,
}  # fmt: skip


class Call(NamedTuple):
    """One request that has got in. who: for the audit log."""

    request: Request
    query: Params
    raw: bytes
    who: str

    @property
    def body(self) -> Params:
        """The JSON object that came with it. Raises: AdminError."""
        return Params.of_body(self.raw, self.request.headers.get("content-type"))

    @property
    def authorization(self) -> str:
        """What it got in with."""
        return str(self.request.headers["authorization"])


Work = Callable[[Desk], Any]
Plan = Callable[[Call], Work | Awaitable[Any]]
"""Reads a request → what to do at a desk, or something to wait for; either gives a JSON value."""


class Path(NamedTuple):
    """One path of the API. told: whether sibling relays are told of it."""

    method: str
    path: str
    plan: Plan
    told: bool = False


class Door:
    """Lets operators in, and has done what they ask."""

    def __init__(
        self,
        passwords: tuple[str, ...],
        clients: Clients,
        desks: Desks,
        siblings: Siblings,
        body_bytes: int,
    ) -> None:
        """Args: passwords: each good; none lets nobody in. body_bytes: what a request may hold."""
        self.private_port: int | None = None
        """Set once the ports are open."""
        self._passwords = passwords
        self._clients = clients
        self._desks = desks
        self._siblings = siblings
        self._body_bytes = body_bytes
        self._gate = Gate()
        self._said_s = float("-inf")

    def route(self, path: Path) -> Route:
        """The route of one path."""

        async def work(request: Request) -> Response:
            return await self._work(path, request)

        return Route(path.path, self.guard(work), methods=[path.method])

    def guard(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint for operators alone."""

        async def guarded(request: Request) -> Response:
            try:
                self._let_in(request)
                response = await endpoint(request)
            except Away:
                metrics.ADMIN_REQUESTS.labels(Result.AWAY).inc()
                return _refusal(AdminError(503, "the database does not answer"))
            except (AdminError, XrpcError) as error:
                metrics.ADMIN_REQUESTS.labels(_result(error.status)).inc()
                if isinstance(error, XrpcError):
                    raise
                return _refusal(error)
            except Exception:
                metrics.ADMIN_REQUESTS.labels(Result.FAULT).inc()
                raise
            metrics.ADMIN_REQUESTS.labels(_result(response.status_code)).inc()
            return response

        return guarded

    def address(self, request: Request) -> str:
        """From where a request comes."""
        server = request.scope.get("server")
        if server is not None and server[1] == self.private_port:
            return _PRIVATE
        peer = request.client.host if request.client else None
        return self._clients.address(peer, request.headers.getlist("x-forwarded-for"))

    def _let_in(self, request: Request) -> None:
        address = self.address(request)
        now_s = asyncio.get_running_loop().time()
        wait_s = self._gate.may_try(address, now_s)
        if wait_s > 0:
            raise Limited(wait_s)
        if not may_enter(request.headers.get("authorization"), self._passwords):
            self._gate.wrong(address, now_s)
            metrics.WRONG_PASSWORDS.inc()
            if now_s - self._said_s >= SAY_AGAIN_S:
                self._said_s = now_s
                _log.warning("a wrong admin password", extra={"fields": {"address": address}})
            raise AdminError(401, "Unauthorized")
        if request.method == "POST" and _is_of_another_site(request.headers):
            # A browser that remembers the password would send it along with anybody's form.
            raise AdminError(403, "a page of another site may not change anything here")

    async def _work(self, path: Path, request: Request) -> Response:
        raw = await self._body(request) if request.method == "POST" else b""
        told = is_forwarded(request.headers)
        who = f"{'sibling' if told else 'admin'}@{self.address(request)}"
        query = Params.of_query(request.query_params.multi_items())
        plan = path.plan(Call(request, query, raw, who))
        if callable(plan):
            work = plan
            body = await self._desks.do(who, lambda desk: orjson.dumps(work(desk)))
        else:
            body = orjson.dumps(await plan)
        if path.told:
            query_string = request.url.query
            target = request.url.path + (f"?{query_string}" if query_string else "")
            self._siblings.tell(target, request.headers, raw)
        return Response(body, 200, {"Cache-Control": "no-store"}, "application/json")

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self._body_bytes:
                raise AdminError(413, "the body is too large")
        return bytes(body)


class Limited(AdminError):
    """Too many wrong passwords came from there."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(429, "too many wrong passwords from this address")
        self.wait_s = wait_s


def _is_of_another_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page elsewhere has made this request; nobody else says anything."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    # Without TLS a browser tells the origin alone.
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _refusal(error: AdminError) -> Response:
    headers = {"Cache-Control": "no-store"}
    if error.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    elif error.status == 413:
        headers["Connection"] = "close"  # the rest of the body is not read
    elif error.status == 503:
        headers["Retry-After"] = "5"
    elif isinstance(error, Limited):
        headers["Retry-After"] = str(ceil(error.wait_s))
    body = orjson.dumps({"error": error.error})
    return Response(body, error.status, headers, "application/json")


def _result(status: int) -> Result:
    return _RESULTS.get(status, Result.INVALID if 400 <= status < 500 else Result.FAULT)
