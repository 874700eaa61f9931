"""Does a power cut at any moment take nothing that anybody has seen, and give no number again?

The bench is held to its own: on a log that leaves out any one of its flushes, or a relay that saves a
cursor before the flush, it must fail.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.power.bench import History, Lost, Moment, near, randomly, scripted, survey

SITES = {
    "wait/_sync/sync",
    "_roll/_sync/sync",
    "_roll/_begin_segment/sync_folder",
    "claim/_begin_segment/sync_folder",
    "_recover/_open_last/sync_folder",
    "_recover/_leave/sync",
    "retain/_remove/sync_folder",
    "retain/_sync/sync",
    "write_checkpoint/write_whole/sync",
}
"""Every flush that is needed; where there is a new one, this list has to learn of it."""
SPARED = {"write_checkpoint/write_whole/sync_folder", "_recover/_open_last/sync"}
"""Without the first an older checkpoint is found, and that is as right as a newer one. Without the
second it would take a host's chunk at the very byte behind the claim to do harm."""


def flushes(moments: list[Moment]) -> set[str]:
    return {moment.site for moment in moments if "sync" in moment.site.rpartition("/")[2]}


def everywhere(moment: Moment) -> bool:
    return True


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be: nothing here needs a disk, and thousands of files are made."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="standpipe") as folder:
        yield Path(folder)


@pytest.fixture
def rng() -> random.Random:
    seed = random.randrange(2**32)
    print("seed", seed)
    return random.Random(seed)


def test_a_power_cut_at_any_moment_takes_nothing_that_was_seen(
    place: Path, rng: random.Random
) -> None:
    history = History(place / "log", rng)
    history.run(scripted())
    assert flushes(history.moments) == SITES | SPARED
    assert history.did["dropped"] >= 3
    assert history.did["killed"] >= 15
    for part in ("create", "sync_folder", "write", "sync", "truncate", "open", "remove", "rename"):
        assert any(
            name.startswith("killed") and name.endswith(f"/{part}") for name in history.did
        ), part
    cuts = survey(history, place / "cut", rng, lambda _: rng.random() < 0.04, again=0.01)
    assert cuts > 200


def test_power_cuts_in_random_histories_take_nothing_that_was_seen(
    place: Path, rng: random.Random
) -> None:
    for number in range(4):
        history = History(place / f"log{number}", rng)
        history.run(randomly(rng, 30))
        survey(history, place / "cut", rng, lambda _: rng.random() < 0.08, again=0.01)


@pytest.mark.slow
def test_power_cuts_at_every_moment_of_many_histories(place: Path, rng: random.Random) -> None:
    history = History(place / "log", rng)
    history.run(scripted())
    survey(history, place / "cut", rng, everywhere, again=0.03)
    for number in range(20):
        history = History(place / f"log{number}", rng)
        history.run(randomly(rng, 50))
        survey(history, place / "cut", rng, lambda _: rng.random() < 0.4, again=0.03)


@pytest.mark.parametrize("site", sorted(SITES))
def test_a_build_that_leaves_out_one_flush_is_caught(
    place: Path, rng: random.Random, site: str
) -> None:
    history = History(place / "log", rng, broken=frozenset({site}))
    history.run(scripted())
    with pytest.raises(Lost):
        survey(history, place / "cut", rng, near(history, site))


def test_a_build_that_saves_a_cursor_before_the_flush_is_caught(
    place: Path, rng: random.Random
) -> None:
    history = History(place / "log", rng, early_save=True)
    history.run(scripted())
    with pytest.raises(Lost):
        survey(history, place / "cut", rng, everywhere)
