"""Where a host belongs."""

from __future__ import annotations

from collections import Counter

from common.sharding import SHARD_COUNT, owner_of, shard_of


def test_the_answer_is_the_same_in_every_process_and_release() -> None:
    # Written down, so that a change of the function cannot pass unseen: it would move hosts.
    assert [shard_of(f"pds{n}.example") for n in range(6)] == [53, 30, 32, 32, 56, 44]


def test_hosts_spread_over_shards_and_shards_over_processes() -> None:
    shards = Counter(shard_of(f"pds{n}.example") for n in range(6400))
    assert len(shards) == SHARD_COUNT
    assert max(shards.values()) < 150
    assert {owner_of(shard, 3) for shard in shards} == {0, 1, 2}
