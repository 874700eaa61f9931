"""Who may speak for a shard? Only its newest owner, by the epoch of the lease.

    known    the highest epoch of each shard that was ever heard of: table `shard`, the checkpoint and
             the log's rows at start; claims and events from then on
    lower    an owner that was outlived: nothing of it is taken, and it is told
    higher   a newer owner: from now on nothing of the ones before it is taken

A member number has a fence of its own, by the time its process began: persist.sequencer.

It does not know leases, and it does not know who owns what: a number is compared.
"""

from __future__ import annotations

from collections.abc import Iterable

from common.envelope import ShardClaim


class Fence:
    """The highest known epoch of each shard."""

    def __init__(self, known: Iterable[ShardClaim] = ()) -> None:
        self.epochs: dict[int, int] = {}
        for claim in known:
            self.passes(claim.shard, claim.epoch)

    def passes(self, shard: int, epoch: int) -> bool:
        """Whether an owner of this epoch may speak for the shard; a newer one outlives the others."""
        known = self.epochs.get(shard, 0)
        if epoch > known:
            self.epochs[shard] = epoch
        return epoch >= known

    def known(self, shard: int) -> ShardClaim:
        """The newest owner's claim, as far as it was heard of."""
        return ShardClaim(shard, self.epochs.get(shard, 0))

    def claims(self) -> list[ShardClaim]:
        """All that is known, by shard."""
        return [ShardClaim(*item) for item in sorted(self.epochs.items())]
