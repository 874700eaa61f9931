"""The log's contract: one durable order of events, whatever engine keeps it.

    Chunk  one group of events that became durable together (common/chunk.py)
    Writer claim → append → wait;  the only place that gives numbers
    Reader read from a seq;  any number of them, in any process

Promises, each held by tests/log_contract.py on every engine:
    `read` is dense and inclusive: its first chunk holds `from_seq`, the next ones follow.
    No reader passes the durable seq.
    Reopening continues: no number is given twice, none is left out.
    A writer that another one has outlived is `Fenced` before it can make anything durable.
    What is damaged is named, never skipped.

Source: the event-stream spec, "Sequence Numbers"; the log literature for segment, roll, fence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from common.chunk import SEQ_MAX, Chunk


class Fenced(Exception):
    """Another writer has claimed the log; this one must end."""


class Outdated(Exception):
    """The seq asked for has left the retained log."""

    def __init__(self, oldest_seq: int) -> None:
        super().__init__(f"the oldest retained seq is {oldest_seq}")
        self.oldest_seq = oldest_seq


class Damaged(Exception):
    """CRC or chain is wrong: the message says in which file and at which byte.

    from_seq: the first seq that cannot be read. until_seq: the seq at which the log can be read again,
    behind what is lost; None where that is not known (yet).
    """

    def __init__(
        self, message: str, from_seq: int | None = None, until_seq: int | None = None
    ) -> None:
        super().__init__(message)
        self.from_seq = from_seq
        self.until_seq = until_seq


class LogWriter(Protocol):
    """The one writer of the log."""

    def claim(self, info: str, floor_seq: int = 1, reached_seq: int = 0, skipped: int = 0) -> int:
        """Repair the tail, raise the epoch, shut earlier writers out; returns the next seq.

        What is damaged stays as it is, and is told; the log goes on behind it.

        Args:
            info: what this writer says of itself.
            floor_seq: no number below it is given; those between are left out for good.
            reached_seq: a seq that is known to have been durable. A log that ends before it was
                lost, and goes on far above it: by `skipped` numbers, at the least.

        Raises:
            Fenced: another writer holds the log.
            Damaged: the writer is strict, and what had been announced is damaged or gone.
            UnknownFormat: a later release wrote the log; nothing was changed.
        """

    def append(
        self,
        rows: Sequence[bytes],
        frames: Sequence[bytes | memoryview],
        time_us: int,
        flags: int = 0,
    ) -> Chunk:
        """Write one chunk behind the last; call order is log order. Not durable before `wait`.

        An empty one is a beat; the log need not keep it. Rows are packed by common.chunk.ROW, one each, and carry offset
        and length within the frames, which come in any number of pieces. flags: the chunk's.

        Raises:
            Fenced: see there.
            OSError: nothing of this chunk will become durable; the process must end.
        """

    def wait(self, seq: int) -> None:
        """Return once everything up to `seq`, and each beat appended before, is durable and
        announced to readers as such.

        Raises:
            Fenced: see there; what was appended is not announced.
            OSError: the flush failed; the process must end.
        """

    @property
    def next_seq(self) -> int:
        """The seq that the next event gets."""

    @property
    def durable_seq(self) -> int:
        """The last seq that is on disk; monotone."""

    @property
    def last_time_us(self) -> int:
        """When the last chunk was written, Unix microseconds: no later one may seem older."""

    def retain(
        self,
        max_bytes: int,
        max_age_s: float,
        now_s: float,
        keep_from: int = SEQ_MAX,
        must_free_bytes: int = 0,
    ) -> int:
        """Drop whole segments from the front; returns how many. Never the newest.

        Args:
            max_bytes: what all may take. max_age_s: how old their last event may be, in seconds.
            keep_from: what holds this seq or a later one stays all the same …
            must_free_bytes: … unless so many bytes are needed at once.
        """

    def close(self) -> None:
        """Flush and let go of the log."""


class LogReader(Protocol):
    """A reader of the log, in any process."""

    def read(self, from_seq: int, max_bytes: int) -> list[Chunk]:
        """Chunks from the one that holds `from_seq`; at least one, about `max_bytes` at most.

        Empty when `from_seq` lies beyond the durable seq. Chunks without events are left out.
        Where a claim left numbers out, the first chunk is the next one there is.

        Raises:
            Outdated: `from_seq` has left the log.
            Damaged: the chunk that holds `from_seq` cannot be read; what lies before it was given
                out before. A read from its `until_seq` goes on behind the damage.
            UnknownFormat: a later release wrote what lies there.
        """

    @property
    def oldest_seq(self) -> int:
        """The first seq that can be read; durable_seq + 1 when there is none."""

    @property
    def durable_seq(self) -> int:
        """The last seq that is on disk, as the writer has announced it; 0 before any."""

    def seq_at(self, time_s: float) -> int:
        """The first seq at or after a time, to the grain of a chunk."""

    def close(self) -> None:
        """Let go of open files."""
