"""What does each shard cost the process that reads it?

    message read ─▶ feed.work ─▶ each second ─▶ average over about a minute ─▶ the table `shard`

The unit is a message of usual size a second. A message costs as much as its bytes do where it has
5 kB, which is what a commit has: half of it is one signature, one state, one row, whatever its size; half
goes with its blocks. Bytes and not processor seconds: they are the same on every machine, and on
one that has other work to do.

Who takes a shard goes on from what its last owner said, so that no move makes a load look new.

No I/O, no clock: `now_s` is steady seconds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

AVERAGE_S: Final = 60.0
"""What happened so long ago counts for a third of what happens now, in seconds."""
MESSAGE_BYTES: Final = 5_000
"""What a message costs beside its bytes, in bytes."""


class Said(NamedTuple):
    """What an owner says of a shard. load: in messages a second. hosts: that it reads."""

    load: float
    hosts: int


class Work(NamedTuple):
    """What was done for a shard since it was asked last. work: in bytes, see `work_of`. hosts: now."""

    work: float
    hosts: int


def work_of(messages: int, size: int) -> int:
    """What some messages of this many bytes together cost, in bytes."""
    return messages * MESSAGE_BYTES + size


class Averages:
    """The loads of the shards of one process."""

    def __init__(self) -> None:
        self._loads: dict[int, float] = {}
        self._at_s: float | None = None

    def take_over(self, shard: int, load: float) -> None:
        """A shard is ours from now on, at what its last owner said."""
        self._loads[shard] = load

    def forget(self, shards: Collection[int]) -> None:
        """They are ours no longer."""
        for shard in shards:
            self._loads.pop(shard, None)

    def say(self, now_s: float, done: Mapping[int, Work]) -> dict[int, Said]:
        """What there is to say of each of our shards.

        Args: done: since the last time; none of a shard that is not in it.
        """
        passed_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        weight = 1 - math.exp(-passed_s / AVERAGE_S)
        said = {}
        for shard, load in self._loads.items():
            work, hosts = done.get(shard, Work(0.0, 0))
            if passed_s > 0:
                load += weight * (work / (2 * MESSAGE_BYTES) / passed_s - load)  # noqa: PLW2901
                self._loads[shard] = load
            said[shard] = Said(load, hosts)
        return said
