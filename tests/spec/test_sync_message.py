"""S-SYN: a #sync tells where a repository stands, whatever came before."""

from __future__ import annotations

import pytest

from common.envelope import NEVER_SEEN, Mark
from common.verdict import DropReason
from ingest.judge import NeedFreshIdentity, NeedStatus
from tests.simnet import repo
from tests.simnet.drisl import car, cid_of, encode
from tests.simnet.events import HEADERS, Kind
from tests.spec.line import Line
from tests.spec.scene import STRANGER, Scene, create, new_key


def newest(scene: Scene) -> bytes:
    return scene.account.repo.commit_block


def unseen(scene: Scene) -> None:
    """The account commits something that the relay never hears of."""
    scene.commit([create(f"com.example.note/{scene.rev()}")])


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("seq", DropReason.SEQ_INVALID),
        ("did", DropReason.DID_INVALID),
        ("blocks", DropReason.FIELD_INVALID),
        ("rev", DropReason.REV_INVALID),
        ("time", DropReason.FIELD_INVALID),
    ],
)
def test_s_syn_01_a_field_that_is_needed_and_missing_costs_the_sync(
    field: str, reason: DropReason
) -> None:
    scene = Scene()
    block = newest(scene)
    fields = {
        "seq": 5, "did": scene.account.did, "rev": scene.account.repo.rev, "time": scene.time(),
        "blocks": car([cid_of(block)], [(cid_of(block), block)]),
    }  # fmt: skip
    assert scene.fate(HEADERS[Kind.SYNC] + encode(fields)) is None
    del fields[field]
    assert scene.fate(HEADERS[Kind.SYNC] + encode(fields)) is reason


@pytest.mark.parametrize(
    ("size", "reason"), [(10_000, None), (10_001, DropReason.BLOCKS_TOO_LARGE)]
)
def test_s_syn_02_blocks_over_ten_thousand_bytes_are_dropped(
    size: int, reason: DropReason | None
) -> None:
    scene = Scene()
    block = newest(scene)
    blocks = car([cid_of(block)], [(cid_of(block), block)])
    rest = b"\x00" * (size - len(blocks) - 38)
    blocks = car([cid_of(block)], [(cid_of(block), block), (cid_of(rest), rest)])
    assert len(blocks) == size
    assert scene.fate(scene.synced(block, blocks=blocks)) is reason


def test_s_syn_02_the_commit_is_the_first_root_and_is_there() -> None:
    scene = Scene()
    block = newest(scene)
    cid, node = cid_of(block), scene.account.repo.root.raw
    missing = scene.synced(block, blocks=car([cid], [(cid_of(node), node)]))
    assert scene.fate(missing) is DropReason.COMMIT_MISSING
    of_node = scene.synced(block, blocks=car([cid_of(node)], [(cid_of(node), node)]))
    assert scene.fate(of_node) is DropReason.COMMIT_MALFORMED
    no_root = scene.synced(block, blocks=car([], [(cid, block)]))
    assert scene.fate(no_root) is DropReason.CAR_NO_ROOT


def test_s_syn_03_did_and_rev_are_those_that_were_signed() -> None:
    scene, other = Scene(), Scene(seed="bob")
    unseen(scene)
    assert scene.fate(scene.synced(newest(scene), rev=scene.rev())) is DropReason.SYNC_NOT_RESIGNED
    stolen = other.synced(newest(scene), rev=scene.account.repo.rev)
    assert other.fate(stolen) is DropReason.COMMIT_MISMATCH


def test_s_syn_04_the_signature_is_verified() -> None:
    scene, mallory = Scene(), Scene(seed="mallory")
    fork = scene.fork([create()], key=mallory.account.key)
    sync = scene.synced(fork.block, rev=fork.rev)
    assert scene.fate(sync) is DropReason.SIGNATURE_INVALID
    assert isinstance(scene.verdict(sync, fresh=False), NeedFreshIdentity)


def test_s_syn_05_an_older_state_is_ignored() -> None:
    scene = Scene()
    old = newest(scene)
    was = scene.account.repo.rev
    assert scene.fate(scene.commit([create()])) is None
    known = scene.state
    assert scene.fate(scene.synced(old, rev=was)) is DropReason.REV_NOT_NEWER
    assert scene.state == known


def test_s_syn_05_the_state_that_we_have_passes_and_changes_nothing() -> None:
    scene = Scene()
    known = scene.state
    assert scene.fate(scene.synced(newest(scene))) is None
    assert scene.state == known


def test_s_syn_05_another_commit_of_the_rev_that_we_have_is_a_fork() -> None:
    scene = Scene()
    fork = scene.fork([create()], rev=scene.account.repo.rev)
    assert scene.fate(scene.synced(fork.block)) is DropReason.REV_NOT_NEWER


def test_s_syn_06_only_the_accounts_own_host_says_it_and_only_of_an_active_account() -> None:
    scene = Scene()
    unseen(scene)
    sync = scene.synced(newest(scene))
    assert scene.fate(sync, source=STRANGER) is DropReason.HOST_NOT_AUTHORITATIVE
    inactive = scene.state._replace(active=False, status="suspended")
    assert isinstance(scene.verdict(sync, state=inactive, asked=False), NeedStatus)
    assert scene.fate(sync, state=inactive) is DropReason.ACCOUNT_INACTIVE
    assert scene.fate(sync) is None


def test_s_syn_07_it_is_a_new_beginning_whatever_came_before() -> None:
    scene = Scene()
    unseen(scene)
    assert scene.marks(scene.commit([create("com.example.note/gap")])) == Mark.DISCONTINUOUS
    assert scene.state.desynchronized
    unseen(scene)
    assert scene.marks(scene.synced(newest(scene))) == 0
    state = scene.account.repo
    assert (scene.state.rev, scene.state.data) == (state.rev, state.data)
    assert scene.state.commit == state.commit
    assert not scene.state.desynchronized
    assert scene.marks(scene.commit([create("com.example.note/on")])) == 0


def test_s_syn_07_it_may_be_the_first_that_is_heard_of_an_account() -> None:
    scene = Scene()
    scene.state = NEVER_SEEN
    assert scene.fate(scene.synced(newest(scene))) is None
    assert scene.marks(scene.commit([create()])) == 0


def test_s_syn_08_it_comes_where_a_repository_begins_or_begins_again() -> None:
    scene = Scene(records=None)
    for event in (scene.commit([]), scene.synced(newest(scene))):
        assert scene.fate(event) is None
    # A key was changed: a new commit, told by nothing but this.
    new_key(scene.account)
    scene.account.repo, _ = repo.commit_writes(
        scene.account.repo, [], scene.rev(), scene.account.key
    )
    assert scene.fate(scene.synced(newest(scene))) is None
    assert scene.marks(scene.commit([create()])) == 0


def test_s_syn_10_more_syncs_than_anybody_needs_wait() -> None:
    line = Line()
    scene = line.scene
    for _ in range(300):
        unseen(scene)
        line.take(scene.synced(newest(scene)))
        line.answer()
    sent = len(line.sent)
    assert 0 < sent < 300
    assert line.drops == []
    line.passes(3600.0)
    # Some come later; what would keep its host's cursor behind for too long is dropped, and counted.
    assert sent < len(line.sent)
    assert {drop.reason for drop in line.drops} == {DropReason.RATE_LIMITED}
    assert len(line.sent) + len(line.drops) == 300
