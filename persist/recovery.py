"""Where does the log end, after whatever ended its last writer?

    intact chunks … | torn chunk          cut at the torn one: it was never announced
    intact chunks … | broken | chunks     Damaged: what had been durable is not, say where

Only one chunk is ever in flight, so whole chunks behind a broken one prove damage, not a crash.
Bytes in, findings out; the disk is persist/segment_log.py's.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.chunk import MAGIC, Chain, Chunk, ChunkError, decode_chunk, peek_head


@dataclass(slots=True)
class Tail:
    """What was found in the last segment.

    chain: behind the last good chunk. end: the byte behind it. chunks: how many there are.
    last_event_us: when the last group with events was written, 0 when there is none.
    rewrite_from: the byte from which nothing was announced as durable: these chunks are whole,
        but a failed flush may have left them in the page cache alone.
    why: what is wrong at `end`; None when the file ends there.
    behind: the bad chunk is followed by a whole one.
    """

    chain: Chain
    end: int = 0
    chunks: int = 0
    last_event_us: int = 0
    rewrite_from: int = 0
    why: str | None = None
    behind: bool = False


def find_tail(data: bytes | memoryview, chain: Chain, durable_seq: int) -> Tail:
    """Walk the chunks of the last segment up to the first that does not follow.

    Args:
        data: the whole segment.
        chain: behind the segment before it; crc None when there is none.
        durable_seq: what the last writer had announced.
    """
    tail = Tail(chain)
    view = memoryview(data)
    try:
        while tail.end < len(view):
            try:
                chunk = decode_chunk(view, tail.end)
                chain.follow(chunk)
            except ChunkError as error:
                tail.why = str(error)
                lost = chain.next_seq <= durable_seq
                tail.behind = _whole_chunk_behind(view, tail.end, chain, search=lost)
                break
            _step(tail, chunk, durable_seq)
        return tail
    finally:
        view.release()


def _step(tail: Tail, chunk: Chunk, durable_seq: int) -> None:
    tail.end += len(chunk.raw)
    tail.chunks += 1
    if chunk.count:
        tail.last_event_us = chunk.time_us
        if chunk.next_seq - 1 <= durable_seq:
            tail.rewrite_from = tail.end


def _whole_chunk_behind(view: memoryview, bad: int, chain: Chain, *, search: bool) -> bool:
    try:
        decode_chunk(view, bad + peek_head(view, bad).length)
    except ChunkError:
        pass
    else:
        return True
    if not search:
        # Nothing announced is missing. A frame may hold bytes that look like a chunk, so a
        # search would let a host turn a crash into damage.
        return False
    data = bytes(view[bad + 1 :])
    at = data.find(MAGIC)
    while at >= 0:
        try:
            if decode_chunk(data, at).next_seq > chain.next_seq:
                return True
        except ChunkError:
            pass
        at = data.find(MAGIC, at + 1)
    return False
