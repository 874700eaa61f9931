"""`standpipe consumers` against a broadcaster that is played: what is asked of it, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_net import free_port
from tests.running.typed import Typed
from tests.running.web import Web, webs

LIST = "/admin/consumers/list"
DISCONNECT = "/admin/consumers/disconnect"
ROW = {
    "id": 7, "remote_addr": "192.0.2.1:5", "user_agent": "a\x1b[2Jb", "events_consumed": 12345,
    "connected_at": "2026-01-02T03:04:05Z", "process": "broadcast-1", "state": "live", "seq": 9,
    "lag_events": 1000, "bytes": 3 * 2**20,
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a password, in which nothing runs."""
    monkeypatch.setenv("STANDPIPE_DATA_DIR", str(tmp_path))
    (tmp_path / "admin-password").write_text("secret\n")
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def relay(data: Path) -> Iterator[Web]:
    """The private port of a broadcaster; behind one that does not answer."""
    with webs(1) as (web,):
        for number, port in enumerate((free_port(), web.server.server_port)):
            told = {"pid": 1, "metrics_port": 1, "metrics_host": "", "private_port": port}
            (data / "run" / f"broadcast-{number}.json").write_text(json.dumps(told))
        yield web


def test_consumers_are_listed(relay: Web, typed: Typed) -> None:
    relay.answers[LIST] = lambda _query: (200, [ROW])
    code, out, err = typed("consumers", "list")
    assert (code, err) == (0, "")
    head, row = out.splitlines()
    assert head.split() == [
        "id", "process", "address", "since", "events", "MiB", "behind", "calls", "itself",
    ]  # fmt: skip
    assert row.split() == [
        "7", "broadcast-1", "192.0.2.1:5", "2026-01-02T03:04:05Z", "12,345", "3.0", "1,000",
        "a\\x1b[2Jb",
    ]  # fmt: skip
    assert json.loads(typed("consumers", "list", "--json")[1]) == [ROW]
    assert set(relay.credentials) == {"Basic YWRtaW46c2VjcmV0"}
    relay.answers[LIST] = lambda _query: (200, [])
    assert typed("consumers", "list")[1] == "nobody reads the stream\n"


def test_a_broadcaster_that_does_not_answer_is_told_beside_the_others(
    relay: Web, typed: Typed
) -> None:
    relay.answers[LIST] = lambda _query: (
        200, [ROW, {"id": 0, "process": "broadcast-0", "error": "does not answer"}],
    )  # fmt: skip
    code, out, err = typed("consumers", "list")
    assert code == 1
    assert len(out.splitlines()) == 2
    assert err == "standpipe: broadcast-0 does not answer\n"


def test_one_is_let_go(relay: Web, typed: Typed) -> None:
    relay.answers[DISCONNECT] = lambda query: (
        200, {"success": "true", "changed": query == {"id": "7"}},
    )  # fmt: skip
    assert typed("consumers", "disconnect", "7")[:2] == (0, "consumer 7 is let go\n")
    code, out, _err = typed("consumers", "disconnect", "8")
    assert (code, out) == (0, "there is no consumer 8; nothing was changed\n")
    assert json.loads(typed("consumers", "disconnect", "8", "--json")[1])["changed"] is False
    assert [path for _at_s, path in relay.asked] == [f"{DISCONNECT}?id={n}" for n in (7, 8, 8)]
    assert relay.methods == ["POST"] * 3
    assert typed("consumers", "disconnect", "first")[0] == 2


def test_what_stands_in_the_way_is_told(
    relay: Web, data: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, body, why in (
        (401, {"error": "Unauthorized"}, "does not take the admin password"),
        (503, {"error": "Busy"}, "the relay answers 503: Busy"),
        (500, b"<html>", "the relay answers 500"),
        (200, b"<html>", "no broadcaster answers"),
    ):
        relay.answers[LIST] = lambda _query, status=status, body=body: (status, body)  # type: ignore[misc]
        code, out, err = typed("consumers", "list")
        assert (code, out) == (1, "")
        assert why in err
    (data / "admin-password").unlink()
    code, _out, err = typed("consumers", "list")
    assert (code, "there is no admin password" in err) == (1, True)
    # Whoever looks makes none.
    assert not (data / "admin-password").exists()
    monkeypatch.setenv("STANDPIPE_ADMIN_PASSWORD", "new,old")
    relay.answers[LIST] = lambda _query: (200, [])
    assert typed("consumers", "list")[0] == 0
    assert relay.credentials[-1] == "Basic YWRtaW46bmV3"


def test_a_relay_that_does_not_run_is_told(data: Path, typed: Typed) -> None:
    for words in (("list",), ("disconnect", "7")):
        code, out, err = typed("consumers", *words)
        assert (code, out) == (1, "")
        assert f"no broadcaster runs in {data}; is the relay running?" in err
