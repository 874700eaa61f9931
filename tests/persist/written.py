"""A log on disk with what accounts of the simulated network said, as persist would have written it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

from common.account_state import state_after_event
from common.chunk import ROW, account_key
from common.envelope import NEVER_SEEN, AccountState, Kind
from common.syntax import tid_number
from persist.outgoing import outgoing_head
from persist.segment_log import SegmentLog
from tests.persist.spoken import Spoken, life

HOST: Final = 3
TIME_US: Final = 1_700_000_000_000_000
SEGMENT_BYTES: Final = 30_000


class Written:
    """Writes lives into a log, several segments of it; knows the states that they lead to.

    states: by DID: (seq of its newest event, state). upstream_seq: the newest of host HOST.
    """

    def __init__(self, log_dir: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.log_dir = log_dir
        self.states: dict[str, tuple[int, AccountState]] = {}
        self.upstream_seq = 0
        self._segment_bytes = segment_bytes
        self._time_us = TIME_US

    def lives(self, *names: str, commits: int = 8, floor_seq: int = 1) -> None:
        """One claim, and behind it the lives of some accounts, event by event in turn."""
        now_s = self._time_us / 1e6
        log = SegmentLog(self.log_dir, segment_bytes=self._segment_bytes, now=lambda: now_s)
        with closing(log):
            log.claim("a writer", floor_seq=floor_seq)
            lives = [life(name, commits) for name in names]
            for turn in range(max(map(len, lives))):
                self._group(log, [one[turn] for one in lives if turn < len(one)])

    def _group(self, log: SegmentLog, said: list[Spoken]) -> None:
        rows: list[bytes] = []
        frames: list[bytes | memoryview] = []
        offset = 0
        for one in said:
            self.upstream_seq += 1
            event = one.event(self.upstream_seq)
            seq = log.next_seq + len(rows)
            head, length = outgoing_head(event.raw, event.seq_start, event.seq_end, seq)
            rev = tid_number(event.rev) if event.rev and event.kind <= Kind.SYNC else 0
            rows.append(
                ROW.pack(offset, length, event.kind, 0, 5, HOST, 1, self.upstream_seq, 1, seq,
                         self._time_us, rev, account_key(event.did))
            )  # fmt: skip
            frames += [head, event.raw[event.seq_end :]]
            offset += length
            _, before = self.states.get(event.did, (0, NEVER_SEEN))
            after = state_after_event(
                before, event, data=one.data, commit=one.commit, host=HOST, marks=0
            )
            self.states[event.did] = seq, after
        self._time_us += 1_000_000
        chunk = log.append(rows, frames, self._time_us)
        log.wait(chunk.next_seq - 1)
