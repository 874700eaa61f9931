"""Strangers over HTTP, on threads: what each path answers, and when it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

DESCRIBE = "/xrpc/com.atproto.server.describeServer"
LIST = "/xrpc/com.atproto.sync.listHosts"
Answer = Callable[[dict[str, str]], tuple[int, Any]]


def _missing(_query: dict[str, str]) -> tuple[int, Any]:
    return 404, {}


class Web:
    """One server. answers: path → status and body, a value or bytes; anything else is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[float, str]] = []
        self.methods: list[str] = []
        self.credentials: list[str | None] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                web.asked.append((time.monotonic(), self.path))
                web.methods.append(self.command)
                web.credentials.append(self.headers["Authorization"])
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                status, value = web.answers.get(parts.path, _missing)(query)
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:
                """Whoever asked has gone."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def name(self) -> str:
        """As a host's name in the table."""
        return f"localhost:{self.server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    def describes(self, did: str) -> None:
        """Answer as the PDS of this DID."""
        self.answers[DESCRIBE] = lambda _query: (200, {"did": did})


@contextmanager
def webs(count: int) -> Iterator[list[Web]]:
    """So many servers, which end with the context."""
    found = [Web() for _ in range(count)]
    threads = [threading.Thread(target=web.server.serve_forever, args=(0.02,)) for web in found]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        for web, thread in zip(found, threads, strict=True):
            web.server.shutdown()
            web.server.server_close()
            thread.join()
