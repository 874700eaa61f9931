"""What does an account cost that is kept in memory? Bytes each, and the time to find it.

    python -m tests.bench.memory persist | ingest

persist keeps the newest states of a million accounts; an ingest process its own copy of fewer, with
their documents and parsed keys. Each is measured in a process of its own, as the system counts what
it holds. Prints JSON.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import ingest.account
import persist.account
from common.envelope import AccountState
from common.syntax import tid_text
from ingest.did_document import Identity
from ingest.signature import K256Key, KeyInvalid

ACCOUNTS: Final = 1_000_000
INGEST_ACCOUNTS: Final = 50_000
BATCH: Final = 1_000
"""Events between two flushes of the view."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_CID: Final = b"\x01\x71\x12\x20"


def did(number: int) -> str:
    """A did:plc for each number."""
    return "did:plc:" + base64.b32encode(number.to_bytes(15, "big")).decode().lower()


def state_of(number: int) -> AccountState:
    """A state as after a commit; no two share an object."""
    content = hashlib.sha512(number.to_bytes(8, "big")).digest()
    rev = tid_text((1_700_000_000_000_000 + number) << 10)
    return AccountState(rev, _CID + content[:32], _CID + content[32:], True, None, number % 2800)


def key_of(number: int) -> K256Key:
    """A key for each number; every other x is on the curve."""
    while True:
        try:
            return K256Key(b"\x02" + hashlib.sha256(number.to_bytes(32, "big")).digest())
        except KeyInvalid:
            number += 2**40


def resident_bytes() -> int:
    """What the system says this process holds."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def event_us(accounts: persist.account.Accounts, count: int) -> float:
    """CPU time of what an event asks of persist's cache, in microseconds: find, change."""
    names = [did(number) for number in range(count)]
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for name in names:
            state = accounts.get(name)
            assert state is not None
            accounts.change(name, state, 1)
        best = min(best, time.process_time() - began)
        accounts.begin_flush()
        accounts.end_flush()
    return best / count * 1e6


def measure_persist() -> dict[str, float]:
    """One event of each account, as the sequencer asks and tells, with flushes between."""
    # Room for more, so that nothing is let go.
    accounts = persist.account.Accounts(ACCOUNTS * 2)
    before = resident_bytes()
    for number in range(ACCOUNTS):
        name = did(number)
        accounts.get(name)
        accounts.change(name, state_of(number), number + 1)
        if number % BATCH == BATCH - 1:
            accounts.begin_flush()
            accounts.end_flush()
    after = resident_bytes()
    assert all(accounts.get(did(number)) == state_of(number) for number in range(0, ACCOUNTS, 997))
    return {
        "bytes": (after - before) / ACCOUNTS,
        "hot_us": event_us(accounts, 1_000),
        "cold_us": event_us(accounts, 100_000),
    }


def measure_ingest() -> dict[str, float]:
    """Accounts whose state and document are known, with nothing under way."""
    accounts = ingest.account.Accounts(INGEST_ACCOUNTS)
    before = resident_bytes()
    for number in range(INGEST_ACCOUNTS):
        account = accounts.get(did(number))
        account.state = state_of(number)
        account.identity = Identity(account.did, key_of(number), "pds.example.com")
    after = resident_bytes()
    assert len(accounts) == INGEST_ACCOUNTS
    return {"bytes": (after - before) / INGEST_ACCOUNTS}


def account_memory() -> dict[str, Any]:
    """Both, by stage."""

    def run(stage: str) -> Any:
        command = [sys.executable, "-m", "tests.bench.memory", stage]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    return {stage: run(stage) for stage in ("persist", "ingest")}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The figures for people."""
    state, copy = found["persist"], found["ingest"]
    yield f"an account's state in persist's memory: {state['bytes']:.0f} bytes each of "
    yield f"{ACCOUNTS:,}; found and changed in {state['hot_us']:.1f} µs, "
    yield f"where it was packed in {state['cold_us']:.1f} µs"
    yield f"an account in an ingest process, with document and key: {copy['bytes']:.0f} bytes each "
    yield f"of {INGEST_ACCOUNTS:,}"


if __name__ == "__main__":
    print(json.dumps(measure_persist() if sys.argv[1:] == ["persist"] else measure_ingest()))
