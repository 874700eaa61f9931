"""Where behind damage does the log go on?

    damaged chunk, its head and rows agree      behind it, by its own length
    else                                        the first whole chunk from which the chain of CRCs
                                                leads to one that is named from elsewhere

A frame may hold whole chunks with right CRCs that its host has made up. Such a chain ends within the
frame: the CRC of a chunk of ours depends on microseconds and on the chunk before, so it cannot be
led to one. Lengths in a head are only believed where the rows, which no host writes, say the same.

Bytes in, a place out. It knows no files.
"""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

from common.chunk import (
    CRC,
    MAGIC,
    SEQ_MAX,
    Chain,
    ChunkError,
    ChunkKind,
    Head,
    check_chunk,
    check_rows,
    peek_head,
)

SEARCH_BYTES: Final = 1024 * 1024 * 1024
"""What a search computes CRCs of at most, in bytes: about a second. A frame could be made of
beginnings of chunks whose lengths all reach to its end."""


class Proof(NamedTuple):
    """What is known of the chunks behind the damage without having read up to them.

    crcs: of some of them. offsets: where some of them begin, counted as the data's.
    """

    crcs: frozenset[int] = frozenset()
    offsets: frozenset[int] = frozenset()


class Found(NamedTuple):
    """A whole chunk: where it begins, and its head."""

    offset: int
    head: Head


def find_behind(
    data: memoryview, chain: Chain, proof: Proof, max_seq: int = SEQ_MAX
) -> Found | None:
    """The first whole chunk of ours behind the one that `data` begins with.

    Args:
        data: from the first chunk that cannot be read, or does not follow, up to the file's end.
        chain: before that chunk. max_seq: no chunk begins behind it.
    """
    at = 0
    while True:
        try:
            head, _ = check_chunk(data, at)
        except ChunkError:
            length = own_length(data, at, chain)
            if not length:
                break
            at += length
            continue
        # Whole, and at a place that our own lengths lead to. One that only does not follow is
        # passed over: what it says is behind other events than those that are here.
        if _possible(head, chain, max_seq) and (at or head.first_seq > chain.next_seq):
            return Found(at, head)
        at += head.length
    return _Search(data, chain, proof, max_seq).run(at + 1)


def find_next(data: memoryview, chain: Chain) -> Found | None:
    """The first whole chunk behind broken ones, when all of them are ours beyond doubt.

    For the end of a log that misses nothing: what follows a torn chunk there was never more than
    a part of its own frames.
    """
    at = 0
    while length := own_length(data, at, chain):
        broken = peek_head(data, at)
        end = at + length - CRC.size
        names = {*CRC.unpack_from(data, end), zlib.crc32(data[at:end])}
        at += length
        try:
            head = peek_head(data, at)
            if head.prev_crc not in names or head.first_seq != broken.first_seq + broken.events:
                return None
            return Found(at, check_chunk(data, at)[0])
        except ChunkError:
            continue
    return None


def own_length(data: memoryview, at: int, chain: Chain) -> int:
    """The length of a broken chunk, where head and rows agree on it; 0 where that is not sure."""
    try:
        head = peek_head(data, at)
        if head.kind == ChunkKind.CLAIM or not _possible(head, chain, SEQ_MAX):
            return 0
        if at + head.length > len(data):
            return 0
        check_rows(data, at, head)
    except ChunkError:
        return 0
    return head.length


def _possible(head: Head, chain: Chain, max_seq: int) -> bool:
    return chain.next_seq <= head.first_seq <= max_seq and head.epoch >= chain.epoch


class _Search:
    """Looks for a beginning from which chunk follows chunk up to one that is known."""

    def __init__(self, data: memoryview, chain: Chain, proof: Proof, max_seq: int) -> None:
        self._data = data
        self._chain = chain
        self._proof = proof
        self._max_seq = max_seq
        self._left = SEARCH_BYTES
        # Chunks that a chain went through which led to nothing.
        self._refused: set[int] = set()

    def run(self, start: int) -> Found | None:
        data = bytes(self._data[start:])
        at = data.find(MAGIC)
        while at >= 0 and self._left > 0:
            if start + at not in self._refused:
                head = self._leads(start + at)
                if head is not None:
                    return Found(start + at, head)
            at = data.find(MAGIC, at + 1)
        return None

    def _leads(self, at: int) -> Head | None:
        """The head of the chunk at `at`, when the chain leads from it to a known one."""
        try:
            first = peek_head(self._data, at)
        except ChunkError:
            return None
        if not _possible(first, self._chain, self._max_seq):
            return None
        chain = Chain(first.first_seq, None, self._chain.epoch)
        while at not in self._refused and self._left > 0:
            try:
                self._left -= peek_head(self._data, at).length
                head, crc = check_chunk(self._data, at)
                chain.step(head, crc)
            except ChunkError:
                return None
            if at in self._proof.offsets or crc in self._proof.crcs:
                return first
            self._refused.add(at)
            at += head.length
        return None
