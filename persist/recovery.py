"""Where does the log end, after whatever ended its last writer?

    intact chunks … | torn chunk          cut at the torn one: it was never announced
    intact chunks … | broken | chunks     damage: the file stays as it is, the log goes on behind it
    intact chunks … | broken              the same, where something announced is missing: it is lost
    intact chunks … | of a later release  UnknownFormat: nothing may be changed

persist has one chunk in flight, so whole chunks behind a broken one prove damage, not a crash. (With
several, a power cut may break the first of them alone: told as damage, though nobody had seen it.)
But bytes of a frame may look like chunks. While nothing announced is missing, only a chunk right
behind the broken one counts; else the one from which the chain leads to the last announced
(common/salvage.py).

Bytes in, findings out; the disk is persist/segment_log.py's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from common.chunk import Chain, ChunkError, Head, UnknownFormat, check_chunk
from common.salvage import Proof, find_behind, find_next
from common.segment_index import Mark, add_mark


class Hole(NamedTuple):
    """Damage with whole chunks behind it.

    offset: the byte at which it begins. before: the chain there. until_seq: where it goes on.
    """

    offset: int
    before: Chain
    until_seq: int
    why: str


@dataclass(slots=True)
class Tail:
    """What was found in the last segment.

    chain: behind the last whole chunk. end: the byte behind it. chunks: how many there are.
    last_us: when the last chunk was written; last_event_us: the last one with events; Unix
        microseconds, 0 when there is none.
    rewrite_from: the byte from which nothing was announced as durable: these chunks are whole,
        but a failed flush may have left them in the page cache alone.
    marks: as the segment's index takes them.
    why: what is wrong at `end`; None when the file ends there.
    """

    chain: Chain
    end: int = 0
    chunks: int = 0
    last_us: int = 0
    last_event_us: int = 0
    rewrite_from: int = 0
    marks: list[Mark] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    why: str | None = None


def find_tail(data: bytes | memoryview, chain: Chain, durable_seq: int, durable_crc: int) -> Tail:
    """Walk the chunks of the last segment up to its last whole one.

    Args:
        data: the whole segment.
        chain: behind the segment before it; crc None when that is not known.
        durable_seq: what the last writer had announced. durable_crc: of the last chunk that it
            had; 0 when that is not known.

    Raises:
        UnknownFormat: a later release wrote some of it.
    """
    tail = Tail(chain)
    proof = Proof(frozenset({durable_crc} - {0}))
    with memoryview(data) as view:
        while tail.end < len(view):
            try:
                head, crc = check_chunk(view, tail.end)
                chain.step(head, crc)
            except ChunkError as error:
                with view[tail.end :] as rest:
                    lost = chain.next_seq <= durable_seq
                    found = find_behind(rest, chain, proof) if lost else find_next(rest, chain)
                if found is None:
                    if isinstance(error, UnknownFormat):
                        raise
                    tail.why = str(error)
                    break
                before = Chain(chain.next_seq, chain.crc, chain.epoch)
                tail.holes.append(Hole(tail.end, before, found.head.first_seq, str(error)))
                chain.next_seq, chain.crc = found.head.first_seq, None
                tail.end += found.offset
                continue
            _step(tail, head, durable_seq)
    return tail


def _step(tail: Tail, head: Head, durable_seq: int) -> None:
    add_mark(tail.marks, tail.end, head.first_seq, head.time_us)
    tail.end += head.length
    tail.chunks += 1
    tail.last_us = head.time_us
    if head.events:
        tail.last_event_us = head.time_us
        if head.first_seq + head.events - 1 <= durable_seq:
            tail.rewrite_from = tail.end
