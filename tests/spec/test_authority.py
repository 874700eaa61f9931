"""S-AUT: which host may speak for an account."""

from __future__ import annotations

import pytest

from common.verdict import DropReason
from ingest.did_document import normal_host
from ingest.judge import Accept, NeedFreshIdentity
from tests.simnet.events import Event
from tests.spec.line import Line
from tests.spec.scene import NEW_PDS, PDS, STRANGER, Scene, create, delete


def all_kinds(scene: Scene) -> list[Event]:
    """What only the account's own host may say."""
    return [
        scene.commit([create()]),
        scene.synced(scene.account.repo.commit_block),
        scene.account.account_as("deactivated"),
        scene.account.account_as(None),
    ]


def test_s_aut_01_the_host_in_the_document_has_the_say() -> None:
    scene = Scene()
    for event in all_kinds(scene):
        assert scene.fate(event, state=scene.state) is None
    moved = Scene()
    moved.host = NEW_PDS
    moved.state = moved.state._replace(host=PDS.host)
    assert moved.fate(moved.commit([create()])) is None
    assert moved.state.host == NEW_PDS.host


def test_s_aut_02_nobody_else_has() -> None:
    scene = Scene()
    for event in all_kinds(scene):
        fate = scene.fate(event, source=STRANGER, state=scene.state)
        assert fate is DropReason.HOST_NOT_AUTHORITATIVE


def test_s_aut_03_nothing_is_dropped_before_the_document_was_looked_up_again() -> None:
    scene = Scene()
    old = scene.identity(PDS)
    for event in all_kinds(scene):
        verdict = scene.verdict(event, source=NEW_PDS, identity=old, fresh=False, state=scene.state)
        assert isinstance(verdict, NeedFreshIdentity)
        now = scene.identity(NEW_PDS)
        assert scene.fate(event, source=NEW_PDS, identity=now, state=scene.state) is None


def test_s_aut_03_a_document_that_was_kept_is_no_new_one_whatever_its_time_says() -> None:
    line = Line()
    scene = line.scene
    old = scene.identity(PDS)
    scene.host = NEW_PDS
    line.take(scene.commit([create()]), NEW_PDS)
    line.remembers(old, line.now_s + 5.0)
    assert (line.sent, line.drops, len(line.asked)) == ([], [], 2)
    line.answer()
    assert len(line.sent) == 1


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://pds.example.com", "pds.example.com"),
        ("https://PDS.Example.COM", "pds.example.com"),
        ("https://pds.example.com/", "pds.example.com"),
        ("https://pds.example.com:443", "pds.example.com"),
        ("https://example.com", "example.com"),
        ("https://example", None),
        ("https://pds.localhost", None),
        ("https://10.0.0.1", None),
        ("https://pds.example.com/path", None),
        ("https://pds.example.com?x", None),
        ("https://user@pds.example.com", None),
        ("http://pds.example.com", None),
        ("https://pds.example.com:8443", None),
        ("wss://pds.example.com", None),
        ("pds.example.com", None),
        ("https://", None),
    ],
)
def test_s_aut_04_hosts_are_compared_by_name_not_by_url(endpoint: str, host: str | None) -> None:
    assert normal_host(endpoint, allow_insecure=False) == host


def test_s_aut_05_the_old_host_is_powerless_from_the_moment_that_the_document_changes() -> None:
    scene = Scene()
    now = scene.identity(NEW_PDS)
    # Nothing has come from the new host yet.
    assert scene.state.host == PDS.host
    for event in all_kinds(scene):
        fate = scene.fate(event, source=PDS, identity=now, state=scene.state)
        assert fate is DropReason.HOST_NOT_AUTHORITATIVE


def test_s_aut_06_what_is_not_signed_is_asked_of_those_who_know() -> None:
    """A host that silences an account is believed only with a document of this moment."""
    scene = Scene()
    silenced = scene.account.account_as("takendown")
    assert isinstance(scene.verdict(silenced, fresh=False), NeedFreshIdentity)
    assert isinstance(scene.verdict(silenced), Accept)
    # An #identity is a hint to look, and changes no key and no host by itself.
    line = Line()
    line.take(line.scene.account.identity())
    line.answer()
    line.take(line.scene.account.identity())
    assert len(line.asked) == 2


def test_s_aut_07_both_hosts_at_once_cannot_tear_the_chain() -> None:
    """Each verdict names the state that it was reached against; see also tests/persist."""
    one = Line(member=1)
    scene = one.scene
    two = Line(scene=scene, persist=one.persist, member=2)
    first = scene.commit([create("com.example.note/1")])
    second = scene.commit([delete(scene.paths[0])])
    for line, source, event in ((one, PDS, first), (two, NEW_PDS, second)):
        line.held_up = True
        scene.host = source
        line.take(event, source)
        line.answer()
    # Both were judged against what was known before either, and the later one comes first.
    for line in (two, one):
        line.held_up = False
        line.deliver()
        line.answer()
    assert [judged.after.rev for judged in one.sent] == [scene.account.repo.rev]
    assert one.reasons == [DropReason.REV_NOT_NEWER]
    assert one.state.data == scene.account.repo.data


def test_s_aut_07_what_comes_back_from_the_log_is_judged_again_in_order() -> None:
    line = Line()
    scene = line.scene
    events = [scene.commit([create(f"com.example.note/{i}")]) for i in range(4)]
    line.held_up = True
    for event in events:
        line.take(event)
    line.answer()
    # The log knows of another host that has spoken meanwhile; each comes back by itself.
    line.persist.view = line.persist.view._replace(host=STRANGER.host)
    line.held_up = False
    line.deliver(most=1)
    line.answer()
    assert [judged.upstream_seq for judged in line.sent] == [1, 2, 3, 4]
    assert [judged.marks for judged in line.sent] == [0, 0, 0, 0]
