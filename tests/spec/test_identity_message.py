"""S-IDE: an #identity says that a document or a handle may have changed, and not what."""

from __future__ import annotations

from typing import Any

import pytest

from common.verdict import Drop, DropReason
from ingest.did_document import Broken
from persist.outgoing import outgoing_head
from tests.simnet.drisl import encode
from tests.simnet.events import HEADERS, Event, Kind
from tests.spec.line import Line
from tests.spec.scene import NEW_PDS, STRANGER, Scene, create, new_key


def said(scene: Scene, **fields: Any) -> Event:
    return scene.message(Kind.IDENTITY, {"did": scene.account.did, "time": scene.time(), **fields})


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("seq", DropReason.SEQ_INVALID),
        ("did", DropReason.DID_INVALID),
        ("time", DropReason.FIELD_INVALID),
    ],
)
def test_s_ide_01_a_field_that_is_needed_and_missing_costs_the_message(
    field: str, reason: DropReason
) -> None:
    scene = Scene()
    fields = {"seq": 5, "did": scene.account.did, "time": scene.time(), "handle": "alice.test"}
    assert scene.fate(HEADERS[Kind.IDENTITY] + encode(fields)) is None
    del fields["handle"]
    assert scene.fate(HEADERS[Kind.IDENTITY] + encode(fields)) is None
    del fields[field]
    assert scene.fate(HEADERS[Kind.IDENTITY] + encode(fields)) is reason


def test_s_ide_02_it_changes_nothing_that_is_known_of_the_account() -> None:
    scene = Scene()
    known = scene.state
    for _ in range(3):
        assert scene.fate(said(scene)) is None
    assert scene.state == known


def test_s_ide_03_it_makes_the_relay_look_again() -> None:
    line = Line()
    scene = line.scene
    line.take(scene.commit([create("com.example.note/1")]))
    line.answer()
    assert len(line.asked) == 1
    new_key(scene.account)
    line.take(said(scene))
    line.take(scene.commit([create("com.example.note/2")]))
    # Both wait for the newest document: an older one might condemn the commit.
    assert (len(line.asked), len(line.sent)) == (2, 1)
    line.answer()
    assert len(line.sent) == 3
    assert line.drops == []


@pytest.mark.parametrize("handle", ["alice.test", "handle.invalid", "", "no handle at all"])
def test_s_ide_04_no_handle_is_believed_or_disbelieved(handle: str) -> None:
    scene = Scene()
    known = scene.state
    assert scene.fate(said(scene, handle=handle)) is None
    assert scene.state == known


@pytest.mark.parametrize(("chars", "passes"), [(2048, True), (2049, False)])
def test_s_ide_04_a_handle_is_a_text_within_reason(chars: int, passes: bool) -> None:
    scene = Scene()
    fate = scene.fate(said(scene, handle="h" * chars))
    assert fate is (None if passes else DropReason.FIELD_INVALID)
    assert scene.fate(said(scene, handle=7)) is DropReason.FIELD_INVALID


def test_s_ide_05_the_handle_passes_as_it_came() -> None:
    scene = Scene()
    event = said(scene, handle="Alice.Test", note="unknown")
    raw = event.frame(5)
    found = scene.read(raw)
    assert not isinstance(found, Drop)
    head, _ = outgoing_head(raw, found.seq_start, found.seq_end, 99)
    assert (head + raw[found.seq_end :]).endswith(event.frame(99))


def test_s_ide_06_one_that_says_nothing_new_passes_all_the_same() -> None:
    line = Line()
    line.take(said(line.scene))
    line.answer()
    line.take(said(line.scene))
    line.passes(10.0)
    line.answer()
    assert len(line.sent) == 2


@pytest.mark.parametrize("status", ["deactivated", "takendown", "deleted", None])
def test_s_ide_07_it_passes_for_an_account_that_is_not_active(status: str | None) -> None:
    scene = Scene()
    scene.state = scene.state._replace(active=False, status=status)
    assert scene.fate(said(scene)) is None
    assert not scene.state.active


def test_s_ide_08_any_host_may_say_it() -> None:
    scene = Scene()
    for source in (NEW_PDS, STRANGER):
        assert scene.fate(said(scene), source=source) is None
    assert scene.fate(said(scene), identity=Broken("no service")) is None
    assert scene.state.host == scene.host.host


def test_s_ide_09_more_of_them_than_anybody_needs_wait_and_so_do_their_look_ups() -> None:
    line = Line()
    for _ in range(300):
        line.take(said(line.scene))
        line.answer()
    assert 0 < len(line.sent) < 300
    assert len(line.asked) < 300
    assert line.drops == []
    sent = len(line.sent)
    line.passes(7200.0)
    assert sent < len(line.sent)
