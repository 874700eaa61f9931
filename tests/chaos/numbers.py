"""Was a number ever given to two events? Every (seq, message) that anybody saw, whoever it was.

Consumers, listeners on the hop between persist and the broadcasters, readers of the log: whatever
one of them saw under a number is what all others have to see under it, for ever.
"""

from __future__ import annotations

from hashlib import blake2b

from common.chunk import Chunk


class Numbers:
    """What was seen under each seq. given_twice: each contradiction, in words."""

    def __init__(self) -> None:
        self.given_twice: list[str] = []
        self._seen: dict[int, tuple[bytes, str]] = {}

    def see(self, seq: int, message: bytes, by: str) -> None:
        """Somebody saw this message under this seq."""
        digest = blake2b(message, digest_size=16).digest()
        known, first = self._seen.setdefault(seq, (digest, by))
        if known != digest:
            self.given_twice.append(f"seq {seq}: {first} saw another message than {by}")

    def see_chunk(self, chunk: Chunk, by: str) -> None:
        """Somebody saw a chunk."""
        for seq, message in messages(chunk):
            self.see(seq, message, by)

    def gaps(self) -> list[int]:
        """The seqs between the first and the last that nobody saw."""
        return [seq for seq in range(min(self._seen), max(self._seen)) if seq not in self._seen]

    @property
    def last(self) -> int:
        """The highest seq that was seen; 0 before any."""
        return max(self._seen, default=0)

    def __len__(self) -> int:
        return len(self._seen)


def messages(chunk: Chunk) -> list[tuple[int, bytes]]:
    """A chunk's events → (seq, message), as a consumer gets it: without the WebSocket frame's head."""
    frames = memoryview(chunk.raw)[chunk.frames_start : chunk.frames_end]
    found = []
    for seq, row in enumerate(chunk.rows(), chunk.first_seq):
        frame = frames[row.offset : row.offset + row.length]
        head = {126: 4, 127: 10}.get(frame[1], 2)
        found.append((seq, bytes(frame[head:])))
    return found
