"""Was everything done in the right order? The rules, over what a persist wrote down of itself.

    write < sync < announce < publish < reply < cursor          for every seq
    create < folder synced < sync that counts                   for every segment
    oldest moved < removed                                      for every segment that goes
    write < sync < rename                                       for every checkpoint

What must come first is written down when it is done, what must come later when it begins: so two
lines in the right order prove that the steps were. A trace goes on over many lives of the process;
what an earlier life had written and not announced counts for nothing in the next one, which has to
write and sync it again.

Lines are JSON arrays, the first item says what was done:

    life pid · write name first rows · sync name · announce seq · publish first until ·
    reply durable logged duplicate · flush applied cursors · create name · folder · oldest seq ·
    remove name · truncate name · epoch number · checkpoint durable applied cursors · rename name ·
    died point

Rows are [host, upstream_seq, position], upstream_seq 0 where the relay speaks itself; cursors are
[host, seq].
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Rules:
    """Follows a trace. broken: each rule that was, in words. counted: how often each step was seen.

    alone: one ingest process sent everything, host by host without a number left out, so that a
    position names an event and a cursor may not pass what nobody wrote.
    """

    def __init__(self, *, alone: bool) -> None:
        self.broken: list[str] = []
        self.counted: Counter[str] = Counter()
        self.died: list[str] = []
        self.announced = 0
        self._alone = alone
        self._published = 0
        self._oldest = 0
        # Of this life: seqs that wait for their file's sync, seqs that had it, files without a name.
        self._unsynced: dict[str, set[int]] = {}
        self._synced: set[int] = set()
        self._nameless: set[str] = set()
        self._unsynced_checkpoint = False
        # Of all lives.
        self._seq_of_position: dict[int, int] = {}
        self._seq_of: dict[tuple[int, int], int] = {}
        self._answered: set[int] = set()
        self._cursors: dict[int, int] = {}

    def follow(self, line: list[Any]) -> None:
        """One more line."""
        name, *what = line
        self.counted[name] += 1
        follow = getattr(self, f"_on_{name}", None)
        if follow is not None:
            follow(*what)

    def _on_life(self, _pid: int) -> None:
        # Whoever was killed may have left it in the page cache alone.
        self._unsynced.clear()
        self._synced.clear()
        self._nameless.clear()

    def _on_write(self, name: str, first: int, rows: list[list[int]]) -> None:
        for seq, (host, upstream_seq, position) in enumerate(rows, first):
            self._seq_of_position[position] = seq
            known = self._seq_of.get((host, upstream_seq), seq) if upstream_seq else seq
            if known != seq and known <= self.announced:
                self._break(f"event {upstream_seq} of host {host} is seq {known}, and seq {seq}")
            if upstream_seq:
                self._seq_of[host, upstream_seq] = seq
            if seq > self.announced:
                self._unsynced.setdefault(name, set()).add(seq)

    def _on_create(self, name: str) -> None:
        self._nameless.add(name)

    def _on_folder(self) -> None:
        self._nameless.clear()

    def _on_sync(self, name: str) -> None:
        if name in self._nameless:
            self._break(f"{name} was synced before the folder that names it")
        self._synced |= self._unsynced.pop(name, set())
        if not name.endswith(".seg"):
            self._unsynced_checkpoint = False

    def _on_announce(self, seq: int) -> None:
        if seq < self.announced:
            self._break(f"seq {seq} is announced after {self.announced}")
        for each in range(self.announced + 1, seq + 1):
            if each not in self._synced:
                self._break(f"seq {each} was announced before it was synced")
        self._synced = {each for each in self._synced if each > seq}
        self.announced = max(seq, self.announced)

    def _on_publish(self, first: int, until: int) -> None:
        if until - 1 > self.announced:
            self._break(f"seqs {first} to {until - 1} were published before they were announced")
        self._published = max(self._published, until - 1)

    def _on_reply(self, durable: int, logged: list[int], duplicate: list[int]) -> None:
        if durable > self.announced:
            self._break(f"seq {durable} was called durable before it was announced")
        if not self._alone:
            return
        for position in logged:
            if self._seq_of_position[position] > self._published:
                self._break(f"position {position} was answered before it was published")
        for position in duplicate:
            if self._seq_of_position[position] > self.announced:
                self._break(f"position {position} was called a duplicate before it was announced")
        self._answered.update(self._seq_of_position[each] for each in (*logged, *duplicate))

    def _on_flush(self, applied: int, cursors: list[list[int]]) -> None:
        self._vouch("the view", applied, cursors)

    def _on_checkpoint(self, durable: int, applied: int, cursors: list[list[int]]) -> None:
        self._vouch("the checkpoint", max(durable, applied), cursors)
        self._unsynced_checkpoint = True

    def _on_rename(self, name: str) -> None:
        if self._unsynced_checkpoint:
            self._break(f"{name} was renamed before it was synced")

    def _vouch(self, who: str, seq: int, cursors: list[list[int]]) -> None:
        """Who says so has everything up to a seq, and that hosts are done up to their cursors."""
        if seq > self.announced:
            self._break(f"{who} was written up to seq {seq} before that was announced")
        for host, cursor in cursors:
            for upstream_seq in range(self._cursors.get(host, 0) + 1, cursor + 1):
                at = self._seq_of.get((host, upstream_seq))
                if at is None and not self._alone:
                    continue  # dropped, or never said
                if at is None or at > self.announced or (self._alone and at not in self._answered):
                    self._break(
                        f"cursor {cursor} in {who} passes event {upstream_seq} of host {host}"
                    )
            self._cursors[host] = max(cursor, self._cursors.get(host, 0))

    def _on_oldest(self, seq: int) -> None:
        self._oldest = max(self._oldest, seq)

    def _on_remove(self, name: str) -> None:
        if int(name.partition(".")[0]) >= self._oldest:
            self._break(f"{name} was removed while readers were told that it is there")

    def _on_died(self, point: str) -> None:
        self.died.append(point)

    def _break(self, what: str) -> None:
        self.broken.append(what)


def read_trace(path: Path) -> list[list[Any]]:
    """The whole lines of a trace; none when there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def check(lines: Iterable[list[Any]], *, alone: bool = True) -> Rules:
    """Follow a whole trace."""
    rules = Rules(alone=alone)
    for line in lines:
        rules.follow(line)
    return rules
