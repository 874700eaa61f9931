"""S-DSY: what does not follow from what we have is passed on and marked; what is wrong is not."""

from __future__ import annotations

import re

import pytest

from broadcast.xrpc import repo_location, repo_status_answer
from common.envelope import NEVER_SEEN, Mark
from common.verdict import DropReason
from persist.tally import HostTally
from tests.mutants.mutant import ROOT
from tests.simnet.drisl import cid_of, link
from tests.spec.line import Line
from tests.spec.rows import row
from tests.spec.scene import PDS, Scene, create, update


def missed(scene: Scene, count: int = 1) -> None:
    """The account commits, and the relay hears nothing of it."""
    for _ in range(count):
        scene.commit([create(f"com.example.note/{scene.rev()}")])


def test_s_dsy_01_invalid_and_discontinuous_are_two_things() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    lie = scene.said(fork, prevData=link(cid_of(b"another tree")))
    assert scene.fate(lie) is DropReason.PREV_DATA_MISMATCH
    assert scene.state.discontinuities == 0
    missed(scene)
    sound = scene.commit([create("com.example.note/b")])
    assert scene.marks(sound) == Mark.DISCONTINUOUS
    # A lie is no less a lie where the chain is broken as well.
    missed(scene)
    fork = scene.fork([create("com.example.note/c")])
    lie = scene.said(fork, ops=[])
    assert scene.fate(lie) is DropReason.PREV_DATA_MISMATCH


@pytest.mark.parametrize("stage", ["ingest", "persist"])
def test_s_dsy_02_the_relay_fetches_no_repository(stage: str) -> None:
    fetching = re.compile(r"getRepo\b|getBlocks|getRecord|getCheckout|listRecords")
    paths = sorted((ROOT / stage).glob("*.py"))
    assert len(paths) > 10
    assert [path.name for path in paths if fetching.search(path.read_text())] == []


def test_s_dsy_03_a_discontinuous_commit_moves_the_state_forward() -> None:
    scene = Scene()
    missed(scene)
    assert scene.marks(scene.commit([create()])) == Mark.DISCONTINUOUS
    state = scene.account.repo
    assert (scene.state.rev, scene.state.data, scene.state.commit) == (
        state.rev, state.data, state.commit,
    )  # fmt: skip
    assert scene.marks(scene.commit([create("com.example.note/next")])) == 0


def test_s_dsy_04_discontinuities_are_counted() -> None:
    scene = Scene()
    for times in (1, 2, 3):
        missed(scene)
        scene.verdict(scene.commit([create(f"com.example.note/{times}")]))
        assert scene.state.discontinuities == times
    scene.verdict(scene.synced(scene.account.repo.commit_block))
    assert scene.state.discontinuities == 3


def test_s_dsy_04_they_are_counted_by_host_too() -> None:
    line = Line()
    for times in (1, 2):
        missed(line.scene)
        line.take(line.scene.commit([create(f"com.example.note/{times}")]))
        line.answer()
        # One that follows counts for nothing.
        line.take(line.scene.commit([create(f"com.example.note/{times}b")]))
    assert [judged.host for judged in line.sent] == [PDS.host] * 4
    assert line.pipeline.counts.discontinuous == line.state.discontinuities == 2
    assert line.persist.tallies.take() == [HostTally(PDS.host, 2, 0)]


def test_s_dsy_05_it_is_told_by_get_repo_status_and_the_account_stays_active() -> None:
    scene = Scene()
    missed(scene)
    scene.verdict(scene.commit([create()]))
    assert scene.state.active
    assert scene.state.desynchronized
    answer = repo_status_answer(row(scene.account.did, scene.state), scene.account.did)
    assert (answer["active"], answer["status"]) == (True, "desynchronized")
    assert answer["rev"] == scene.state.rev
    # Until its host says where it stands.
    missed(scene)
    scene.verdict(scene.synced(scene.account.repo.commit_block))
    answer = repo_status_answer(row(scene.account.did, scene.state), scene.account.did)
    assert answer == {"did": scene.account.did, "active": True, "rev": scene.state.rev}


def test_s_dsy_06_what_was_sent_before_is_no_fork() -> None:
    scene = Scene()
    first = scene.commit([create("com.example.note/1")])
    second = scene.commit([create("com.example.note/2")])
    assert [scene.fate(event) for event in (first, second, first, second)] == [
        None, None, DropReason.REV_NOT_NEWER, DropReason.REV_NOT_NEWER,
    ]  # fmt: skip
    assert scene.state.discontinuities == 0
    assert not scene.state.desynchronized


def test_s_dsy_07_who_has_to_fetch_the_repository_is_led_to_its_host() -> None:
    scene = Scene()
    did = scene.account.did
    found = repo_location(
        row(did, scene.state), did, "/xrpc/com.atproto.sync.getRepo", f"did={did}"
    )
    assert found == f"https://pds.example.com/xrpc/com.atproto.sync.getRepo?did={did}"


def test_s_dsy_08_the_first_commit_that_we_see_is_sound_in_itself() -> None:
    scene = Scene()
    path = scene.paths[5]
    fork = scene.fork([update(path)])
    lies = (
        scene.said(fork, ops=[]),
        scene.said(fork, prevData=link(cid_of(b"x"))),
        scene.said(fork, ops=[{**fork.ops[0], "cid": link(cid_of(b"x"))}]),
    )
    for lie in lies:
        assert scene.fate(lie, state=NEVER_SEEN) is not None
    scene.state = NEVER_SEEN
    assert scene.marks(scene.said(fork)) == 0
    assert not scene.state.desynchronized
    assert (scene.state.rev, scene.state.commit) == (fork.rev, fork.cid)
