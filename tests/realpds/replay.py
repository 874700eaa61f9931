"""How is the saved capture served again, so that keys and hosts change when they did?

Two hosts stream the frames in the order of their times. The directory gives each DID the document
of that moment. Before a document changes, `settled` is awaited: the relay must have finished what
was said under the old one, as it had then.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import io
import json
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

import cbor2
from aiohttp import web
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from common.verdict import DropReason

CAPTURE: Final = Path(__file__).parent / "capture"
PORTS: Final = (2583, 2584)
"""The ports that the captured hosts had; the documents served here name today's instead."""


@dataclass(slots=True)
class Said:
    """One captured frame: by which host, when (Unix seconds), what."""

    host: int
    time_s: float
    seq: int
    kind: str
    did: str
    raw: bytes
    payload: dict[str, Any]


@dataclass(slots=True)
class Host:
    """One host's stream so far, and its listeners."""

    port: int = 0
    sent: list[Said] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, socket: ServerConnection) -> None:
        """subscribeRepos: everything after the cursor, then whatever comes."""
        assert socket.request is not None
        query = parse_qs(urlsplit(socket.request.path).query)
        cursor = int(query["cursor"][0]) if "cursor" in query else None
        at = len(self.sent)
        if cursor is not None:
            at = sum(said.seq <= cursor for said in self.sent)
        closed = asyncio.ensure_future(socket.wait_closed())
        try:
            while not closed.done():
                while at < len(self.sent):
                    await socket.send(self.sent[at].raw)
                    at += 1
                self.grown.clear()
                grown = asyncio.ensure_future(self.grown.wait())
                await asyncio.wait([grown, closed], return_when=asyncio.FIRST_COMPLETED)
                grown.cancel()
        except ConnectionClosed:
            return
        finally:
            closed.cancel()

    def say(self, said: Said) -> None:
        """Append one frame and wake whoever listens."""
        self.sent.append(said)
        self.grown.set()


def captured() -> list[Said]:
    """Every captured frame, in the order of their times."""
    frames = []
    for host, name in enumerate(("pds0", "pds1")):
        data = gzip.decompress((CAPTURE / f"{name}.bin.gz").read_bytes())
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at)
            raw = data[at + 4 : at + 4 + length]
            at += 4 + length
            decoder = cbor2.CBORDecoder(io.BytesIO(raw))
            header, payload = decoder.decode(), decoder.decode()
            did = payload.get("repo") or payload["did"]
            frames.append(
                Said(host, _unix(payload["time"]), payload["seq"], header["t"], did, raw, payload)
            )
    return sorted(frames, key=lambda said: (said.time_s, said.host, said.seq))


def operations() -> list[dict[str, Any]]:
    """What was done to the accounts, in order; one object an operation."""
    text = gzip.decompress((CAPTURE / "log.jsonl.gz").read_bytes()).decode()
    return [entry for line in text.splitlines() if (entry := json.loads(line))["event"] == "op"]


def deserved_drops(done: list[dict[str, Any]]) -> dict[DropReason, int]:
    """What a relay must drop of what these operations made the hosts say, by reason.

    After a migration the new host says a `#sync` of the head that it imported, signed by the former
    key; and whatever the former host says from then on, nobody has asked it.
    """
    syncs = sum(operation["op"] == "migrate" for operation in done)
    old = sum(len(operation.get("expectOld", ())) for operation in done)
    found = {DropReason.SYNC_NOT_RESIGNED: syncs, DropReason.HOST_NOT_AUTHORITATIVE: old}
    return {reason: count for reason, count in found.items() if count}


class Replay:
    """The captured hosts and their directory, on free ports of loopback."""

    def __init__(self) -> None:
        """Load the capture; entering the context starts the servers."""
        self.frames = captured()
        audit = gzip.decompress((CAPTURE / "audit.json.gz").read_bytes())
        self._audit: dict[str, list[dict[str, Any]]] = json.loads(audit)
        self._clock_s = self.frames[0].time_s
        self.hosts = [Host(), Host()]
        self._servers: list[Server] = []
        self._directory: web.AppRunner | None = None
        self.plc_url = ""

    @property
    def host_urls(self) -> list[str]:
        """What STANDPIPE_HOSTS takes."""
        return [f"http://localhost:{host.port}" for host in self.hosts]

    async def play(self, settled: Callable[[int], Awaitable[None]]) -> None:
        """Say everything; before a document changes, await `settled(number of frames so far)`."""
        changes = sorted(
            _unix(entry["createdAt"]) for entries in self._audit.values() for entry in entries
        )
        for number, said in enumerate(self.frames):
            due = [change for change in changes if self._clock_s < change <= said.time_s]
            if due:
                await settled(number)
            self._clock_s = max(self._clock_s, said.time_s)
            self.hosts[said.host].say(said)
        await settled(len(self.frames))

    def document(self, did: str) -> dict[str, Any] | None:
        """The DID document of this moment; None for a DID that nobody registered."""
        entries = [entry for entry in self._audit.get(did, []) if not entry["nullified"]]
        if not entries:
            return None
        past = [entry for entry in entries if _unix(entry["createdAt"]) <= self._clock_s]
        operation = (past or entries[:1])[-1]["operation"]
        return {
            "id": did,
            "alsoKnownAs": operation["alsoKnownAs"],
            "verificationMethod": [
                {
                    "id": f"{did}#{name}",
                    "type": "Multikey",
                    "controller": did,
                    "publicKeyMultibase": key.removeprefix("did:key:"),
                }
                for name, key in operation["verificationMethods"].items()
            ],
            "service": [
                {
                    "id": f"#{name}",
                    "type": service["type"],
                    "serviceEndpoint": self._today(service["endpoint"]),
                }
                for name, service in operation["services"].items()
            ],
        }

    def _today(self, endpoint: str) -> str:
        for host, port in zip(self.hosts, PORTS, strict=True):
            if endpoint == f"http://localhost:{port}":
                return f"http://localhost:{host.port}"
        raise AssertionError(f"a captured document names {endpoint}")

    async def _answer(self, request: web.Request) -> web.Response:
        document = self.document(unquote(request.path[1:]))
        if document is None:
            return web.json_response({"message": "DID not registered"}, status=404)
        return web.json_response(document, content_type="application/did+ld+json")

    async def __aenter__(self) -> Self:
        """Start the servers."""
        for host in self.hosts:
            server = await serve(host.stream, "localhost", None, max_size=None, compression=None)
            host.port = next(iter(server.sockets)).getsockname()[1]
            if any(each.getsockname()[1] != host.port for each in server.sockets):
                # localhost may have two addresses, each with a port of its own.
                server.close()
                server = await serve(
                    host.stream, "localhost", host.port, max_size=None, compression=None
                )
            self._servers.append(server)
        application = web.Application()
        application.router.add_get("/{did}", self._answer)
        self._directory = web.AppRunner(application)
        await self._directory.setup()
        site = web.TCPSite(self._directory, "127.0.0.1", 0)
        await site.start()
        self.plc_url = f"http://127.0.0.1:{self._directory.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the servers."""
        for server in self._servers:
            server.close(close_connections=True)
            await server.wait_closed()
        if self._directory is not None:
            await self._directory.cleanup()


def _unix(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
