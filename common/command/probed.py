"""What did a consumer of the stream see, and is it what it was promised? Messages in, a verdict out.

    #commit #sync #identity #account   counted; seq must rise from each to the next
    #info                              told, not counted
    error frame, text, no CBOR         a fault

Source: lesson 4; com.atproto.sync.subscribeRepos.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from common.event import Event, Info, StreamError, decode
from common.verdict import Drop

FAULTS_KEPT: Final = 10
"""The first ones say what is wrong."""


class Probed:
    """What came over one connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connected = False
        self.connect_s = 0.0
        """How long it took to be connected."""
        self.first_event_s: float | None = None
        """How long after that the first event came."""
        self.seconds = 0.0
        """How long it was connected."""
        self.events = 0
        self.size = 0
        self.kinds: Counter[str] = Counter()
        self.first_seq: int | None = None
        self.last_seq: int | None = None
        self.infos: list[str] = []
        self.faults: list[str] = []

    @property
    def fps(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds > 0 else 0.0

    @property
    def missed(self) -> int:
        """Numbers between the first and the last that did not come."""
        if self.first_seq is None or self.last_seq is None:
            return 0
        return max(0, self.last_seq - self.first_seq + 1 - self.events)

    def ok(self, min_fps: float) -> bool:
        """Whether it went as it should, with so many events a second."""
        return self.connected and not self.faults and self.fps >= min_fps

    def take(self, message: bytes | str, after_s: float) -> None:
        """One message came, so long after the connection was there."""
        if isinstance(message, str):
            self.fault("a text message")
            return
        self.size += len(message)
        match decode(message):
            case Event() as event:
                self._event(event, after_s)
            case Info() as info:
                self.infos.append(info.name)
            case StreamError() as error:
                self.fault(f"error frame {error.error}: {error.message or 'no message'}")
            case Drop() as drop:
                # Of a kind that this release does not know, or broken.
                self.fault(f"a message that is {drop.reason}: {drop.detail}")

    def fault(self, what: str) -> None:
        """Something is not as it should be."""
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(what)

    def _event(self, event: Event, after_s: float) -> None:
        if self.last_seq is not None and event.seq <= self.last_seq:
            self.fault(f"seq {event.seq} after {self.last_seq}")
        if self.first_seq is None:
            self.first_seq, self.first_event_s = event.seq, after_s
        self.last_seq = event.seq
        self.events += 1
        self.kinds[event.kind.name.lower()] += 1


def probed_value(probed: Probed, min_fps: float) -> dict[str, Any]:
    """For programs."""
    return {
        "ok": probed.ok(min_fps),
        "url": probed.url,
        "connected": probed.connected,
        "connect_s": round(probed.connect_s, 3),
        "first_event_s": None if probed.first_event_s is None else round(probed.first_event_s, 3),
        "seconds": round(probed.seconds, 3),
        "events": probed.events,
        "fps": round(probed.fps, 2),
        "min_fps": min_fps,
        "bytes": probed.size,
        "kinds": dict(sorted(probed.kinds.items())),
        "first_seq": probed.first_seq,
        "last_seq": probed.last_seq,
        "missed": probed.missed,
        "infos": probed.infos,
        "faults": probed.faults,
    }


def probed_text(probed: Probed, min_fps: float) -> str:
    """For people."""
    lines = [f"{'ok' if probed.ok(min_fps) else 'NOT OK'}: {probed.url}"]
    if probed.connected:
        lines.append(
            f"connected within {probed.connect_s:.2f} s; {probed.events:,} events in"
            f" {probed.seconds:.1f} s, {probed.fps:,.1f} a second (at least {min_fps:g} wanted)"
        )
    if probed.first_seq is not None:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in probed.kinds.most_common())
        lines.append(
            f"seq {probed.first_seq:,} to {probed.last_seq:,}, {probed.missed:,} left out: {kinds}"
        )
    lines += [f"told: {info}" for info in probed.infos]
    lines += [f"fault: {fault}" for fault in probed.faults]
    return "\n".join(lines)
