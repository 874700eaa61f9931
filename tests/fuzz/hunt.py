"""How is one target hunted? Mutate, run, look at the outcome, keep what is new.

There is no instrumentation: an outcome is told by its words (`car_malformed: header: …` without the
numbers), and an input with new words is worth mutating further. The words of this code are many.
"""

from __future__ import annotations

import hashlib
import random
import re
import resource
import struct
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fuzz.mutate import Mutation, mutated

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
FINDINGS: Final = HERE / "findings"
SLOW_S: Final = 0.050
"""CPU time of one input, in seconds; met three times in a row, it is a finding."""
GROWN_KB: Final = 400_000
"""How far the process may grow, in kilobytes: what is kept of the corpus is far less."""
KEPT_INPUTS: Final = 400
KEPT_BYTES: Final = 60_000
"""How much of a target's corpus is kept in the repository."""


class Wrong(Exception):
    """An answer that is neither yes nor a documented no."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser.

    seeds: honest inputs. run: raises Wrong, or gives the outcome in words.
    change: makes another input of one; mutations of bytes and items unless told otherwise.
    """

    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes], str]
    kinds: Sequence[Mutation] = ()
    change: Callable[[bytes, random.Random, Sequence[bytes]], bytes] | None = None


@dataclass(slots=True)
class Hunt:
    """What came of it. outcomes: in words, with how often. findings: input and what was wrong."""

    executions: int = 0
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    findings: list[tuple[bytes, str]] = field(default_factory=list)
    slowest_s: float = 0.0


def words_of(outcome: str) -> str:
    """The outcome without what depends on the input: numbers, quoted text, CIDs."""
    return re.sub(r"'.*'|\".*\"|\d+|b'.*'", "#", outcome)[:120]


def hunt(
    target: Target, seconds: float, seed: int, corpus: list[bytes], most: int | None = None
) -> Hunt:
    """Hunt for so long, or for `most` executions. New inputs are appended to `corpus`."""
    rng = random.Random(seed)
    found = Hunt()
    pool = [*target.seeds(), *corpus]
    for raw in pool:
        _try(target, raw, found)
    begun = time.monotonic()
    grown_from = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while time.monotonic() - begun < seconds and found.executions != most:
        parent = pool[int(len(pool) * rng.random() ** 0.7)]
        if target.change is not None:
            raw = target.change(parent, rng, pool)
        else:
            raw = mutated(parent, rng, pool, target.kinds)
        if _try(target, raw, found) and len(pool) < 20_000:
            pool.append(raw)
            corpus.append(raw)
        if found.executions % 1000 == 0:
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown_from
            if grown > GROWN_KB:
                found.findings.append((raw, f"the process has grown by {grown} kB"))
                break
        if len(found.findings) >= 20:
            break
    found.seconds = time.monotonic() - begun
    return found


def _try(target: Target, raw: bytes, found: Hunt) -> bool:
    """Run one input → whether its outcome is new."""
    found.executions += 1
    begun = time.thread_time()
    try:
        outcome = target.run(raw)
    except (Exception, RecursionError) as error:  # whatever it is, it is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__} {words_of(str(error))} in {where.name}"
        if words not in found.outcomes:
            found.findings.append((raw, "".join(traceback.format_exception(error))[-1500:]))
        found.outcomes[words] = found.outcomes.get(words, 0) + 1
        return False
    taken = time.thread_time() - begun
    if taken > SLOW_S and (taken := min(taken, _again(target, raw), _again(target, raw))) > SLOW_S:
        found.findings.append((raw, f"{taken * 1000:.0f} ms for {len(raw)} bytes: {outcome}"))
    found.slowest_s = max(found.slowest_s, taken)
    words = words_of(outcome)
    new = words not in found.outcomes
    found.outcomes[words] = found.outcomes.get(words, 0) + 1
    return new


def _again(target: Target, raw: bytes) -> float:
    begun = time.thread_time()
    target.run(raw)
    return time.thread_time() - begun


# --- what is kept ---


def read_corpus(name: str) -> list[bytes]:
    """The inputs that were kept of a target."""
    path = CORPUS / f"{name}.bin"
    raw, at, found = path.read_bytes() if path.exists() else b"", 0, []
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def write_corpus(name: str, target: Target, inputs: Sequence[bytes]) -> int:
    """Keep the smallest input of each outcome, as far as there is room; how many those are."""
    smallest: dict[str, bytes] = {}
    for raw in sorted(inputs, key=lambda raw: (len(raw), raw)):
        try:
            smallest.setdefault(words_of(target.run(raw)), raw)
        except Exception:
            continue
    kept: list[bytes] = []
    size = 0
    for raw in smallest.values():
        size += 4 + len(raw)
        if len(kept) >= KEPT_INPUTS or size > KEPT_BYTES:
            break
        kept.append(struct.pack("<I", len(raw)) + raw)
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{name}.bin").write_bytes(b"".join(kept))
    return len(kept)


def save_finding(name: str, raw: bytes, words: str) -> Path:
    """Keep a finding for whoever mends it."""
    FINDINGS.mkdir(exist_ok=True)
    path = FINDINGS / f"{name}-{hashlib.sha256(raw).hexdigest()[:16]}"
    path.with_suffix(".bin").write_bytes(raw)
    path.with_suffix(".txt").write_text(words)
    return path.with_suffix(".bin")
