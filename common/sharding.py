"""Which shard does a key belong to? The same answer in every process and after every restart.

Python's own `hash` differs from process to process, so the key is hashed with a fixed function.
This module knows neither hosts nor processes.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

SHARD_COUNT: Final = 64
"""Virtual shards that hosts map to: enough that a fair share stays fair for a dozen processes."""


def shard_of(key: str, count: int = SHARD_COUNT) -> int:
    """The shard of `key`, from 0 to `count` - 1."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") % count


def owner_of(shard: int, processes: int) -> int:
    """Which of `processes` equals takes a shard first, by number from 0: it is at home there.

    Who has it now says the table `shard`.
    """
    return shard % processes
