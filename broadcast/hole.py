"""Which numbers does the stream lack, why, and what are consumers told at that place?

    what a reader gave, from a seq on ─▶ chunks and holes, each beginning where the one before ends

A hole stands in the stream like a chunk: whoever comes to it gets an `#info` message named `Gap`,
once, and goes on behind it. From a place within a hole the message names what is missing from
there, so that the bytes depend on the cursor alone, and not on who serves them.

Two kinds: numbers that were left out when the log went on above what it had lost, and a range that
is damaged. Numbers of events that are hidden are a third one, of which nobody is told. What lies before the log's first event is no hole, and is told as OutdatedCursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from broadcast.notice import GAP, encode_info, websocket_frame
from common.chunk import Chunk
from common.hidden import shown


class Cause(Enum):
    """Why numbers are missing; the end of what a consumer is told."""

    LEFT_OUT = "the relay had lost its newest state and went on above every number it had given"
    DAMAGED = "the relay's log is damaged there"


@dataclass(frozen=True, slots=True)
class Hole:
    """Seqs from `first_seq` up to, not including, `next_seq` have no events that can be read.

    It stands where a chunk may stand.
    """

    first_seq: int
    next_seq: int
    cause: Cause

    count: ClassVar[int] = 0
    """Events in it."""
    raw: ClassVar[bytes] = b""
    """What it holds of the log."""

    def frames_from(self, seq: int) -> memoryview:
        """The WebSocket frame that tells a consumer who is at `seq`."""
        return memoryview(websocket_frame(encode_info(GAP, self.words_from(seq))))

    def words_from(self, seq: int) -> str:
        """First and last missing seq, and why. Operators' programs may parse the numbers."""
        first_seq = max(seq, self.first_seq)
        return f"seq {first_seq} to {self.next_seq - 1} are missing: {self.cause.value}"


Stretch = list[Chunk | Hole]
"""A part of the stream without a silent hole: each item begins where the one before ends."""


def stretch_of(chunks: Iterable[Chunk], from_seq: int, durable_seq: int, until_seq: int) -> Stretch:
    """What a read from `from_seq` gave, with the numbers named that a claim left out.

    The first chunk may begin before `from_seq`. Without any, everything durable from there on was
    left out.

    Args:
        durable_seq: the log's durable seq before the read. until_seq: where the reader knows how
            to go on, behind `from_seq`: a hole at the end of the log is told up to there.
    """
    found: Stretch = []
    next_seq = from_seq
    for chunk in chunks:
        if chunk.first_seq > next_seq:
            found.append(Hole(next_seq, chunk.first_seq, Cause.LEFT_OUT))
        found.append(chunk)
        next_seq = chunk.next_seq
    if not found and from_seq <= durable_seq:
        found.append(Hole(from_seq, min(durable_seq + 1, until_seq), Cause.LEFT_OUT))
    return found


def shown_of(
    part: Chunk | Hole, from_seq: int, hidden: Mapping[bytes, int]
) -> tuple[list[memoryview], int]:
    """What consumers get of a part of the stream: frames, in pieces, and how many events they are.

    Numbers of hidden events are simply not there: that hole has a name, and nobody is told of it.
    """
    if isinstance(part, Hole):
        return [part.frames_from(from_seq)], 0
    return shown(part, from_seq, hidden)
