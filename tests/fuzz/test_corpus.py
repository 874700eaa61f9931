"""Does every parser still answer what was once hunted for? And does the hunt find what is there?"""

from __future__ import annotations

import random

import pytest

from tests.fuzz.hunt import (
    CORPUS,
    FINDINGS,
    KEPT_BYTES,
    Hunt,
    Target,
    Wrong,
    hunt,
    read_corpus,
    words_of,
)
from tests.fuzz.mutate import BYTES, CBOR, items_of, mutated
from tests.fuzz.targets import targets

ROUNDS = 400
"""Executions of each target in a test run: enough to see that the hunt itself works."""


@pytest.mark.parametrize("name", targets())
def test_every_input_that_was_kept_gets_a_documented_answer(name: str) -> None:
    target = targets()[name]
    kept = read_corpus(name)
    assert kept
    outcomes = {words_of(target.run(raw)) for raw in kept}
    # Each was kept for an outcome that no other had; words may have changed since.
    assert len(outcomes) > len(kept) // 2
    assert (CORPUS / f"{name}.bin").stat().st_size <= KEPT_BYTES


@pytest.mark.parametrize("name", targets())
def test_a_short_hunt_finds_nothing(name: str) -> None:
    found = hunt(targets()[name], 60.0, seed=7, corpus=[], most=ROUNDS)
    assert [words for _, words in found.findings] == []
    assert found.executions >= ROUNDS
    assert len(found.outcomes) > 2


def test_no_finding_is_left_lying_about() -> None:
    assert not FINDINGS.exists() or not list(FINDINGS.iterdir())


def planted(raw: bytes) -> str:
    """A parser with two faults: one raises, one says yes to what it may not."""
    if len(raw) > 4 and raw[4] == 0x7F:
        raise IndexError("planted")
    if raw.startswith(b"\xa2"):
        raise Wrong("planted too")
    return "yes" if raw[:1] == b"\xa1" else "no"


def test_a_hunt_finds_faults_that_were_planted() -> None:
    target = Target(lambda: [b"\xa1\x63seq\x05hello"], planted, (*BYTES, *CBOR))
    found = hunt(target, 60.0, seed=1, corpus=[], most=20_000)
    words = " ".join(found.outcomes)
    assert "IndexError planted" in words
    assert "Wrong planted too" in words
    assert len(found.findings) == 2, "each fault is told once"


def test_what_takes_too_long_is_found() -> None:
    def slow(raw: bytes) -> str:
        return str(sum(i * i for i in range(2_000_000 if raw == b"\xf6" else 1)))

    target = Target(lambda: [b"\xf6"], slow, CBOR)
    found: Hunt = hunt(target, 60.0, seed=1, corpus=[], most=2)
    assert [" ms for " in words for _, words in found.findings][:1] == [True]


def test_mutations_reach_items_and_stay_within_bounds() -> None:
    raw = b"\xa2\x61e\x81\xa4\x61k\x43abc\x61p\x00\x61t\xf6\x61v\xf6\x61l\xf6"
    spans = [raw[start:end] for start, _, end in items_of(raw)]
    assert spans[0] == raw
    assert b"\x43abc" in spans
    assert spans[-1] == b"\xf6"
    assert items_of(b"\xbf\xff") == [(0, 1, 1)]
    rng = random.Random(3)
    made = {mutated(raw, rng, [raw], (*BYTES, *CBOR)) for _ in range(500)}
    assert len(made) > 300
    assert max(map(len, made)) <= 200_000
