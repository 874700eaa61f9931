"""Which keys stand high in a tree? Some that were looked for, as an attacker would.

    python -m tests.ingest.mined 400 > tests/ingest/mined_keys.txt

A key of depth d takes 4 ** d hashes to find: 12 on one core in a quarter of a minute, 20 on a farm of
them. Seven minutes found these.
"""

from __future__ import annotations

import sys
import time
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("mined_keys.txt")
PREFIX: Final = b"com.example.tall/"
WANTED: Final = {8: 220, 9: 20, 10: 12, 11: 6, 12: 4, 13: 2, 14: 1}
"""How many keys of each depth are looked for."""


@cache
def mined_keys(least: int) -> tuple[bytes, ...]:
    """All keys of this depth and more, in order."""
    rows = [line.split() for line in FILE.read_text().splitlines()]
    return tuple(sorted(key.encode() for depth, key in rows if int(depth) >= least))


def mine(seconds: float) -> dict[int, list[bytes]]:
    """Look for keys for so long, or until all are found."""
    found: dict[int, list[bytes]] = {depth: [] for depth in WANTED}
    begun, number = time.monotonic(), 0
    start = sha256(PREFIX)
    while time.monotonic() - begun < seconds and any(
        len(found[depth]) < count for depth, count in WANTED.items()
    ):
        for number in range(number, number + 100_000):  # noqa: B020 - it goes on from there
            hashed = start.copy()
            hashed.update(b"%x" % number)
            digest = hashed.digest()
            if digest[0] == 0 == digest[1]:
                depth = (256 - int.from_bytes(digest).bit_length()) // 2
                if len(found.get(depth, ())) < WANTED.get(depth, 0):
                    found[depth].append(PREFIX + b"%x" % number)
        number += 1
    return found


if __name__ == "__main__":
    for depth, keys in mine(float(sys.argv[1])).items():
        for key in keys:
            print(depth, key.decode())
