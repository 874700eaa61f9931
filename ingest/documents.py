"""What is kept of a DID's document, and what waits to be written?

    answer ─▶ Unwritten.put ─▶ take, a batch at a time ─▶ table `identity`
    table `identity` ─▶ document_of ─▶ the key parsed again, as it was found

Kept are the key, the host, or why there is neither, and when that was asked; of a document's other
contents nothing. Of DIDs that never had a document nothing is kept either, so that forged ones take no
room: "not found" replaces what is known, and adds nothing.

No I/O, no clock.

Source: S-IDN-09.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, Final, NamedTuple

from ingest.did_document import Broken, Identity, NotFound
from ingest.judge import Known
from ingest.signature import KeyInvalid, key_of

WHY_CHARS: Final = 200
"""Our own sentence on what is wrong with a document; none is longer today."""
_FOUND: Final = "found"
_BROKEN: Final = "broken"
_NOT_FOUND: Final = "not_found"


class Document(NamedTuple):
    """What a DID's document said. asked_s: when it was asked for, Unix seconds."""

    did: str
    known: Known
    asked_s: float


class Row(NamedTuple):
    """A row of the table `identity`. asked_s: Unix seconds; the rest as there."""

    did: str
    outcome: str
    curve: str | None
    key: bytes | None
    host: str | None
    why: str | None
    asked_s: float


def row_of(document: Document) -> Row:
    """How a document is kept."""
    did, known, asked_s = document
    if isinstance(known, Identity):
        key = known.key
        return Row(did, _FOUND, key.curve, key.point, known.host, None, asked_s)
    outcome = _BROKEN if isinstance(known, Broken) else _NOT_FOUND
    return Row(did, outcome, None, None, None, known.why[:WHY_CHARS], asked_s)


def document_of(row: Row) -> Document | None:
    """What was kept; None when it is nothing that this release could have written."""
    if row.outcome == _FOUND:
        if row.curve is None or row.key is None or row.host is None:
            return None
        try:
            key = key_of(row.curve, row.key)
        except KeyInvalid:
            return None
        return Document(row.did, Identity(row.did, key, row.host), row.asked_s)
    if row.outcome == _BROKEN:
        return Document(row.did, Broken(row.why or ""), row.asked_s)
    if row.outcome == _NOT_FOUND:
        return Document(row.did, NotFound(row.why or ""), row.asked_s)
    return None


class Unwritten:
    """Documents that wait for the database, the newest of each DID."""

    def __init__(self, most: int) -> None:
        """Args: most: bound, in documents; beyond it the oldest are let go and asked for again."""
        self._most = most
        self._rows: OrderedDict[str, Row] = OrderedDict()
        self.counts: Counter[str] = Counter()
        """`lost`: let go unwritten."""

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, document: Document) -> None:
        """To be written, soon."""
        known = self._rows.get(document.did)
        if known is not None and known.asked_s > document.asked_s:
            return
        self._rows[document.did] = row_of(document)
        if len(self._rows) > self._most:
            self._rows.popitem(last=False)
            self.counts["lost"] += 1

    def take(self, most: int) -> list[Row]:
        """What to write now, oldest first; it no longer waits."""
        return [self._rows.popitem(last=False)[1] for _ in range(min(most, len(self._rows)))]

    def give_back(self, rows: list[Row]) -> None:
        """These could not be written: they wait on, but for those that are newer by now."""
        for row in reversed(rows):
            if row.did not in self._rows:
                self._rows[row.did] = row
                self._rows.move_to_end(row.did, last=False)
        while len(self._rows) > self._most:
            self._rows.popitem(last=False)
            self.counts["lost"] += 1


def columns_of(rows: list[Row]) -> list[list[Any]]:
    """Rows → one list for each column, in the order of the DIDs: two writers never lock crosswise."""
    return [list(column) for column in zip(*sorted(rows, key=_did_of), strict=True)]


def _did_of(row: Row) -> str:
    return row.did
