"""Which path is answered by what? Starlette's routes; the answers are made in xrpc.

Every answer carries CORS headers, every failure under /xrpc/ is JSON with `error` and `message`.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcast import metrics
from broadcast.admin_door import Door
from broadcast.client import Clients
from broadcast.config import STREAM_PATH, HttpLimits
from broadcast.crawl_desk import CrawlDesk
from broadcast.health import Pulse, why_degraded, why_unhealthy
from broadcast.recent import Recent
from broadcast.rejects import Asked, parse_admin, parse_public, rejects_answer
from broadcast.store import Away, Store
from broadcast.version import VERSION, versions
from broadcast.xrpc import (
    HOSTS_LIMIT,
    REPOS_LIMIT,
    HostRow,
    Query,
    XrpcError,
    host_answer,
    hosts_answer,
    latest_commit_answer,
    parse_hostname,
    repo_location,
    repo_status_answer,
    repos_answer,
)

_SYNC: Final = "/xrpc/com.atproto.sync."
_is_nsid_of_atproto: Final = re.compile(
    r"/xrpc/com\.atproto(?:\.[a-zA-Z][a-zA-Z0-9-]*){2}"
).fullmatch
_BANNER: Final = f"""\
This is an AT Protocol relay: Standpipe {VERSION}.

The stream of all repositories:  {STREAM_PATH}
Health:                          /_health
What is known of a host:         /hosts/NAME
Why a message was dropped:       /rejects?host=… or ?did=…
Release and its libraries:       /version
"""
HOST_PAGES: Final = 50
"""Pages of hosts that are kept for a moment, of up to a thousand rows each."""
_CORS: Final = [(b"access-control-allow-origin", b"*")]
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}

_Answer = Callable[[Query, Request], Awaitable[Response]]


class Views:
    """The HTTP answers of one broadcast process."""

    def __init__(
        self,
        store: Store,
        pulse: Pulse,
        limits: HttpLimits,
        crawl: CrawlDesk,
        clients: Clients,
        door: Door,
        admin_routes: Sequence[Route] = (),
    ) -> None:
        """Args: door: lets operators in. admin_routes: what they have, but for the dropped messages."""
        self._crawl = crawl
        self._clients = clients
        self._door = door
        self._admin_routes = admin_routes
        self._store = store
        self._pulse = pulse
        self._limits = limits
        self._pages: Recent[list[HostRow]] = Recent(most=HOST_PAGES)
        self._rows: Recent[HostRow | None] = Recent()
        self._data: Recent[dict[str, Any] | None] = Recent()

    def app(self) -> ASGIApp:
        """The ASGI application."""
        queries: dict[str, _Answer] = {
            "listHosts": self._list_hosts,
            "getHostStatus": self._host_status,
            "listRepos": self._list_repos,
            "getRepoStatus": self._repo_status,
            "getLatestCommit": self._latest_commit,
            "getRepo": self._repo,
        }
        routes = [
            Route("/", _banner),
            Route("/_health", self._health),
            Route("/xrpc/_health", self._health),
            Route("/_live", _live),
            Route("/version", _version),
            Route("/rejects", _query(self._rejects)),
            Route("/hosts/{hostname}", _query(self._host_data)),
            Route("/admin/rejects", self._door.guard(_query(self._rejects_with_frames))),
            *self._admin_routes,
            # Every method comes here; what asks for the upgrade with GET never does.
            Route(STREAM_PATH, _Stream()),
            *[Route(_SYNC + name, _query(answer)) for name, answer in queries.items()],
            Route(_SYNC + "requestCrawl", self._request_crawl, methods=["POST"]),
        ]
        app = Starlette(
            routes=routes,
            exception_handlers={
                XrpcError: _on_xrpc_error,
                Away: _on_away,
                HTTPException: _on_http_exception,
                ClientDisconnect: _on_disconnect,
                Exception: _on_fault,
            },
        )
        # A path with a slash too many is another path, not a reason to redirect.
        app.router.redirect_slashes = False
        return _Everywhere(app)

    async def _health(self, _request: Request) -> Response:
        now_s = asyncio.get_running_loop().time()
        why = why_unhealthy(self._pulse, now_s)
        if why is None:
            less = why_degraded(self._pulse, now_s)
            told = {"reason": less.reason, "message": less.message} if less else {}
            return _json({"status": "degraded" if less else "ok", **told, "version": VERSION})
        body = {
            "status": "error", "error": "Unhealthy", "reason": why.reason, "message": why.message,
            "version": VERSION,
        }  # fmt: skip
        return _json(body, 503, {"Retry-After": "5"})

    async def _list_hosts(self, query: Query, _request: Request) -> Response:
        limit = query.limit(HOSTS_LIMIT)
        after = query.cursor()
        rows = await self._pages.ask((after, limit), lambda: self._store.hosts(after, limit + 1))
        return _json(hosts_answer(rows, limit))

    async def _host_status(self, query: Query, _request: Request) -> Response:
        hostname = query.hostname()
        row = await self._rows.ask(hostname, lambda: self._store.host(hostname))
        if row is None:
            raise XrpcError(404, "HostNotFound", f"{hostname} is not known here")
        return _json(host_answer(row))

    async def _host_data(self, _query: Query, request: Request) -> Response:
        hostname = parse_hostname(request.path_params["hostname"])
        data = await self._data.ask(hostname, lambda: self._store.host_data(hostname))
        if data is None:
            raise XrpcError(404, "HostNotFound", f"{hostname} is not known here")
        return _json(data)

    async def _list_repos(self, query: Query, _request: Request) -> Response:
        limit = query.limit(REPOS_LIMIT)
        return _json(repos_answer(await self._store.accounts(query.cursor(), limit + 1), limit))

    async def _repo_status(self, query: Query, _request: Request) -> Response:
        did = query.did()
        return _json(repo_status_answer(await self._store.account(did), did))

    async def _latest_commit(self, query: Query, _request: Request) -> Response:
        did = query.did()
        return _json(latest_commit_answer(await self._store.account(did), did))

    async def _repo(self, query: Query, request: Request) -> Response:
        did = query.did()
        query.since()
        row = await self._store.account(did)
        location = repo_location(row, did, request.url.path, request.url.query)
        return Response(status_code=302, headers={"Location": location})

    async def _rejects(self, query: Query, _request: Request) -> Response:
        asked = parse_public(query)
        return _json(await self._rejects_page(asked, frames=False))

    async def _rejects_with_frames(self, query: Query, _request: Request) -> Response:
        asked = parse_admin(query)
        page = await self._rejects_page(asked, frames=True)
        return _json(page, headers={"Cache-Control": "no-store"})

    async def _rejects_page(self, asked: Asked, *, frames: bool) -> dict[str, Any]:
        host = None
        if asked.host is not None:
            host = await self._store.host_number(asked.host)
            if host is None:
                raise XrpcError(404, "HostNotFound", f"{asked.host} is not known here")
        rows = await self._store.rejects(asked, host, limit=asked.limit + 1, frames=frames)
        return rejects_answer(rows, asked.limit, frames=frames)

    async def _request_crawl(self, request: Request) -> Response:
        client = self._clients.address(
            request.client.host if request.client else None,
            request.headers.getlist("x-forwarded-for"),
        )
        body = await self._body(request)
        answer = await self._crawl.request(body, client, request.headers.get("host"))
        again = {} if answer.after_s is None else {"Retry-After": str(math.ceil(answer.after_s))}
        return _json(answer.body, answer.status, again)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self._limits.body_bytes:
                raise XrpcError(413, "PayloadTooLarge", "the body is too large")
        return bytes(body)


def _query(answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await answer(Query(request.query_params.multi_items()), request)

    return endpoint


class _Stream:
    """What the stream's path answers to a request that does not ask for the upgrade."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            error = XrpcError(426, "UpgradeRequired", "this is a WebSocket stream")
            more = {"Upgrade": "websocket", "Connection": "Upgrade"}
        else:
            error = XrpcError(405, "MethodNotAllowed", "this is a WebSocket stream: use GET")
            more = {"Allow": "GET"}
        await _error(error, more)(scope, receive, send)


class _Everywhere:
    """CORS on every answer, and preflights."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_CORS]
                metrics.REQUESTS.labels(f"{message['status'] // 100}xx").inc()
            await send(message)

        if scope["method"] == "OPTIONS" and _is_preflight(scope):
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, send_on)
        else:
            await self._app(scope, receive, send_on)


def _is_preflight(scope: Scope) -> bool:
    names = {name for name, _value in scope["headers"]}
    return b"access-control-request-method" in names or scope["path"] != STREAM_PATH


async def _banner(_request: Request) -> Response:
    return PlainTextResponse(_BANNER)


async def _live(_request: Request) -> Response:
    return _json({"status": "ok"})


async def _version(_request: Request) -> Response:
    return _json(versions())


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")


def _error(error: XrpcError, headers: dict[str, str] | None = None) -> Response:
    return Response(error.body(), error.status, headers, "application/json")


async def _on_xrpc_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, XrpcError)
    # The rest of a body that was refused is not read.
    return _error(error, {"Connection": "close"} if error.status == 413 else None)


async def _on_away(_request: Request, _cause: Exception) -> Response:
    error = XrpcError(503, "ServiceUnavailable", "the database does not answer")
    return _error(error, {"Retry-After": "5"})


async def _on_disconnect(_request: Request, _cause: Exception) -> Response:
    return Response(status_code=400)


async def _on_fault(_request: Request, _cause: Exception) -> Response:
    return _error(XrpcError(500, "InternalServerError", "a fault of this relay"))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 404:
        path = request.url.path
        if _is_nsid_of_atproto(path):
            return _error(XrpcError(501, "MethodNotImplemented", "this relay does not serve it"))
        if not path.startswith("/xrpc/"):
            return _error(XrpcError(404, "NotFound", "nothing is here"))
        return _error(XrpcError(404, "XRPCNotSupported", "no such method"))
    names = {405: "MethodNotAllowed"}
    name = names.get(error.status_code, "InvalidRequest")
    return _error(XrpcError(error.status_code, name, error.detail), headers)
