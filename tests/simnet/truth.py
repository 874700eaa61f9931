"""What was said, and did exactly that come out? The ledger of every event, and the comparison.

Each event is kept as a digest of its bytes without `seq`, in the order of emission. A received
frame is opened by cbor2 alone, its `seq` cut out where the ledger says it must stand, and the
rest compared byte for byte (through the digest).

It does not know sockets, and nothing of the relay but the names of its drop reasons.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import cbor2

from common.verdict import DropReason
from tests.simnet.events import Event, digest_of

EXAMPLES: Final = 5
"""How many examples of each fault a report keeps."""

UNREADABLE: Final = (ValueError, KeyError, TypeError, cbor2.CBORDecodeError)
"""What `open_frame` raises for a message that cannot be read."""

Key = tuple[str, str, str]


class Entry(NamedTuple):
    """One event as it was emitted.

    ident: `rev` of a commit, `time` of any other; empty for what cannot be read.
    drop: why a relay must drop it; None for a valid event. name: which invalid event it is.
    seq_at: where `seq` stands in the frame. digest: hex, of the frame without `seq`.
    host, seq: who said it, and under which number.
    """

    kind: str
    did: str
    ident: str
    drop: DropReason | None
    name: str
    seq_at: int
    digest: str
    host: int
    seq: int

    @property
    def key(self) -> Key:
        """What names the event wherever it is met."""
        return self.kind, self.did, self.ident


class Truth:
    """Every event in the order of emission; a valid one is kept once."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._places: dict[Key, int] = {}
        self._bad: dict[str, int] = {}

    def note(
        self,
        event: Event,
        host: int,
        seq: int,
        drop: DropReason | None = None,
        name: str = "",
    ) -> None:
        """Write down an event that a host has just said."""
        entry = Entry(
            event.kind,
            event.did,
            event.ident,
            drop,
            name,
            len(event.before),
            event.digest().hex(),
            host,
            seq,
        )
        self._add(entry)

    def _add(self, entry: Entry) -> None:
        place = len(self.entries)
        self.entries.append(entry)
        if entry.drop is None:
            assert entry.key not in self._places, f"two events have the name {entry.key}"
            self._places[entry.key] = place
        else:
            self._bad[entry.digest] = place

    @property
    def valid(self) -> Iterator[Entry]:
        """The events that must come out, each once."""
        return (entry for entry in self.entries if entry.drop is None)

    @property
    def invalid(self) -> Iterator[Entry]:
        """The events that must not come out."""
        return (entry for entry in self.entries if entry.drop is not None)

    def place(self, key: Key) -> int | None:
        """Where a valid event stands in the order of emission."""
        return self._places.get(key)

    def invalid_by_digest(self, digest: str) -> Entry | None:
        """The invalid event with these bytes."""
        place = self._bad.get(digest)
        return None if place is None else self.entries[place]

    def counts(self) -> dict[str, int]:
        """Valid events by kind, invalid ones by reason."""
        counted: Counter[str] = Counter()
        for entry in self.entries:
            counted[entry.kind if entry.drop is None else f"drop:{entry.drop}"] += 1
        return dict(counted)

    def dump(self, path: Path) -> None:
        """Write the ledger to a file, one JSON list a line."""
        with path.open("w") as file:
            for entry in self.entries:
                file.write(json.dumps(entry) + "\n")

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what `dump` wrote."""
        truth = cls()
        with path.open() as file:
            for line in file:
                row = json.loads(line)
                row[3] = None if row[3] is None else DropReason(row[3])
                truth._add(Entry(*row))
        return truth


@dataclass(slots=True)
class Report:
    """How a relay's output differs from the truth; all counts are 0 when it is right.

    missing: valid events that did not come out. doubled: that came out again.
    altered: came out with other bytes. invalid_delivered: should have been dropped.
    extra: nobody said them. out_of_order: stand before an earlier event of their account.
    seq_not_rising: relay numbers that do not rise. unreadable: frames cbor2 cannot open.
    """

    expected: int = 0
    received: int = 0
    missing: int = 0
    doubled: int = 0
    altered: int = 0
    invalid_delivered: int = 0
    extra: int = 0
    out_of_order: int = 0
    seq_not_rising: int = 0
    unreadable: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every valid event came out exactly once, in order, and nothing else."""
        return not any(
            (
                self.missing,
                self.doubled,
                self.altered,
                self.invalid_delivered,
                self.extra,
                self.out_of_order,
                self.seq_not_rising,
                self.unreadable,
            )
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ok": self.ok, **asdict(self)}

    def _tell(self, what: str, example: object) -> None:
        setattr(self, what, getattr(self, what) + 1)
        kept = self.examples.setdefault(what, [])
        if len(kept) < EXAMPLES:
            kept.append(str(example))


def compare(truth: Truth, frames: Iterable[bytes]) -> Report:
    """Hold a relay's frames, in the order they were received, against the truth.

    `#info` frames are left out: they are the relay's own.
    """
    report = Report(expected=sum(1 for _ in truth.valid))
    seen: set[Key] = set()
    newest: dict[str, int] = {}
    last_seq = -1
    for frame in frames:
        try:
            kind, body = open_frame(frame)
        except UNREADABLE:
            report._tell("unreadable", frame[:40].hex())
            continue
        if kind == "info":
            continue
        report.received += 1
        seq = body["seq"]
        if seq <= last_seq:
            report._tell("seq_not_rising", f"{seq} after {last_seq}")
        last_seq = seq
        key = key_of(kind, body)
        place = truth.place(key)
        if place is None:
            bad = _invalid_with(truth, frame, seq)
            report._tell("extra" if bad is None else "invalid_delivered", (seq, key))
            continue
        entry = truth.entries[place]
        if _digest_at(frame, entry.seq_at, seq) != entry.digest:
            bad = _invalid_with(truth, frame, seq)
            report._tell("altered" if bad is None else "invalid_delivered", (seq, key))
            continue
        if key in seen:
            report._tell("doubled", (seq, key))
            continue
        seen.add(key)
        if place < newest.get(entry.did, -1):
            report._tell("out_of_order", (seq, key))
        newest[entry.did] = max(place, newest.get(entry.did, -1))
    for entry in truth.valid:
        if entry.key not in seen:
            report._tell("missing", (entry.host, entry.seq, *entry.key))
    return report


def open_frame(frame: bytes) -> tuple[str, dict[str, Any]]:
    """A message's kind (without `#`) and payload, by cbor2 alone.

    Raises:
        UNREADABLE: it is not two CBOR maps of an `op` 1 message, and nothing more.
    """
    stream = io.BytesIO(frame)
    header, body = cbor2.load(stream), cbor2.load(stream)
    if stream.read(1) or header["op"] != 1 or not isinstance(body, dict):
        raise ValueError("not one message")
    return header["t"].removeprefix("#"), body


def key_of(kind: str, body: dict[str, Any]) -> Key:
    """What names an event: kind, DID, and `rev` of a commit or `time` of any other."""
    if kind == "commit":
        return kind, str(body.get("repo")), str(body.get("rev"))
    return kind, str(body.get("did")), str(body.get("time"))


def _digest_at(frame: bytes, at: int, seq: int) -> str:
    number = cbor2.dumps(seq)
    if frame[at : at + len(number)] != number:
        return ""
    return digest_of(frame[:at], frame[at + len(number) :]).hex()


def _invalid_with(truth: Truth, frame: bytes, seq: int) -> Entry | None:
    """The invalid event that this frame is, wherever in it `seq` may stand."""
    at = frame.find(b"\x63seq")
    while at >= 0:
        found = truth.invalid_by_digest(_digest_at(frame, at + 4, seq))
        if found is not None:
            return found
        at = frame.find(b"\x63seq", at + 1)
    return None
