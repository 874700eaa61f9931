"""Which other machine is let in, and who was not?

    handshake ──▶ libzmq asks (ZAP) ──▶ is its key among the clients'? ──▶ 200 or 400
    monitor  ◀── a handshake that failed before that: no key, or not for our own key

A thread of its own: libzmq asks while the loop of persist may be waiting for the disk. The clients' keys are
read again for each who knocks, at most once a second, so that a machine is let in or shut out without a
restart; who is connected already stays so. Who was refused is counted, and told in the log now and then.

Source: rfc.zeromq.org/spec/27 (ZAP).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

import zmq

from common import curve
from common.transport import LinkEvent, link_event, monitor
from persist.metrics import REFUSED_LINKS

log: Final = logging.getLogger(__name__)

ZAP: Final = "inproc://zeromq.zap.01"
_STOP: Final = "inproc://gate"
SAY_AGAIN_S: Final = 10.0
READ_AGAIN_S: Final = 1.0


class Gate:
    """Answers libzmq for one inlet, from its own thread, until `close`."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        inlet: zmq.Socket[bytes],
        keys: curve.ServerKeys,
    ) -> None:
        """Make it before `inlet` is bound to what asks for keys."""
        self._context = context
        self._inlet = inlet
        self._keys = keys
        self._allowed: frozenset[bytes] = frozenset()
        self._read_s = float("-inf")
        self._said_s = float("-inf")
        self._unsaid = 0
        self._told = monitor(inlet)
        self._stop = context.socket(zmq.PAIR)
        self._stop.bind(_STOP)
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="gate", daemon=True)
        self._thread.start()
        ready.wait()

    def close(self) -> None:
        """End the thread; the inlet stays."""
        self._stop.send(b"")
        self._thread.join()
        self._stop.close()
        self._inlet.disable_monitor()

    def _run(self, ready: threading.Event) -> None:
        zap, stop = self._context.socket(zmq.REP), self._context.socket(zmq.PAIR)
        try:
            zap.bind(ZAP)
            stop.connect(_STOP)
            ready.set()
            poller = zmq.Poller()
            for socket in (zap, stop, self._told):
                poller.register(socket, zmq.POLLIN)
            while True:
                came = dict(poller.poll())
                if stop in came:
                    return
                if zap in came:
                    zap.send_multipart(self._answer(zap.recv_multipart()))
                if self._told in came:
                    parts = self._told.recv_multipart()
                    if link_event(parts) is LinkEvent.FAILED:
                        self._refused("no_key", parts[1].decode())
        finally:
            ready.set()
            zap.close(0)
            stop.close(0)
            self._told.close(0)

    def _answer(self, asked: list[bytes]) -> list[bytes]:
        version, request, _domain, address, _identity, mechanism, *credentials = asked
        now_s = time.monotonic()
        if now_s - self._read_s >= READ_AGAIN_S:
            self._read_s = now_s
            self._allowed = curve.allowed(self._keys.clients)
        if mechanism == b"CURVE" and credentials and credentials[0] in self._allowed:
            return [version, request, b"200", b"OK", b"", b""]
        self._refused("unknown_key", address.decode(errors="replace"))
        return [version, request, b"400", b"this key is not among persist's clients", b"", b""]

    def _refused(self, reason: str, address: str) -> None:
        REFUSED_LINKS.labels(reason).inc()
        self._unsaid += 1
        now_s = time.monotonic()
        if now_s - self._said_s >= SAY_AGAIN_S:
            log.warning(
                "a connection from another machine was refused",
                extra={"fields": {"reason": reason, "address": address, "times": self._unsaid}},
            )
            self._said_s, self._unsaid = now_s, 0
