"""Who says which key and host belong to a DID? A directory on loopback, with faults on request.

    GET /{did}  →  the DID document, or 404

Source: did:plc specification, "DID Resolution".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import Counter
from typing import Any, Final

from aiohttp import web

from tests.fix_net import free_port
from tests.simnet.faults import DirectoryFault
from tests.simnet.listening import accept_no_more

HUGE_BYTES: Final = 8_000_000
"""Size of a huge document: far past what any reader should take."""


class Directory:
    """A PLC directory.

    documents: DID → document; None is a tombstone.
    requests: how often each DID was asked for, whatever the answer.
    fault, faults: what to do instead, for all or for one DID.
    delay_s: how long a SLOW answer takes, in seconds, unless the directory's fault is another before.
    """

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any] | None] = {}
        self.requests: Counter[str] = Counter()
        self.fault = DirectoryFault.NONE
        self.faults: dict[str, DirectoryFault] = {}
        self.delay_s = 30.0
        self._changed = asyncio.Event()
        self.port = 0
        self._listening: list[socket.socket] = []
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where the directory is, without a trailing slash."""
        return f"http://localhost:{self.port}"

    async def start(self) -> None:
        """Listen on a free port, the same again after a `DOWN`."""
        app = web.Application()
        app.router.add_get("/_health", self._health)
        app.router.add_get("/{did}", self._document)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._runner is not None:
            await accept_no_more(self._listening)
            await self._runner.cleanup()
            self._listening.clear()
            self._runner = None

    async def set_fault(self, fault: DirectoryFault, did: str | None = None) -> None:
        """Misbehave from now on, for one DID or for all; DOWN is for all only."""
        if did is not None:
            self.faults[did] = fault
            return
        self.fault = fault
        self._changed.set()
        self._changed = asyncio.Event()
        if fault is DirectoryFault.DOWN:
            await self.close()
        elif self._runner is None:
            await self.start()

    async def _listen(self) -> None:
        assert self._runner is not None
        self.port = self.port or free_port()
        self._listening.append(socket.create_server(("127.0.0.1", self.port)))
        await web.SockSite(self._runner, self._listening[0]).start()

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "simnet"})

    async def _document(self, request: web.Request) -> web.StreamResponse:
        did = request.match_info["did"]
        self.requests[did] += 1
        fault = self.faults.get(did, DirectoryFault.NONE)
        if fault is DirectoryFault.NONE:
            fault = self.fault
        if fault is DirectoryFault.SLOW:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.delay_s):
                    await self._changed.wait()
        if fault is DirectoryFault.SERVER_ERROR:
            return web.json_response({"message": "Internal Server Error"}, status=500)
        if fault is DirectoryFault.MALFORMED:
            return _answer(b'{"id": "' + did.encode() + b'", "verificationMethod": [')
        if fault is DirectoryFault.HUGE:
            return _answer(json.dumps({"id": did, "x": "x" * HUGE_BYTES}).encode())
        if fault is DirectoryFault.NOT_FOUND or did not in self.documents:
            return web.json_response({"message": f"DID not registered: {did}"}, status=404)
        document = self.documents[did]
        if document is None:
            return web.json_response({"message": f"DID not available: {did}"}, status=404)
        return _answer(json.dumps(document).encode())


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/did+ld+json")
