"""`standpipe pull-hosts` and `hosts add`: another relay's hosts, each asked who it is, put into a live table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from common.command.host_check import other_name
from common.command.listed import BadPage, Listed, Page, judge, parse_page
from common.target import Target
from tests.fix_net import eventually, free_port
from tests.relay import ROOT
from tests.running.typed import Database, Typed
from tests.running.web import DESCRIBE, LIST, Web, webs


@pytest.fixture
def world(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Web]]:
    """Another relay, and five hosts; those on this machine are allowed."""
    monkeypatch.setenv("STANDPIPE_ALLOW_INSECURE_HOSTS", "true")
    # They are asked from this very process, which may be away for long.
    monkeypatch.setattr("common.command.host_check.LIMIT_S", 60.0)
    with webs(6) as found:
        for number, web in enumerate(found[1:]):
            web.describes(f"did:web:{number}.example")
        yield found


def row(hostname: str, status: str = "active", seq: object = 7) -> dict[str, Any]:
    return {"hostname": hostname, "status": status, "seq": seq, "accountCount": 1}


def lists(relay: Web, *pages: list[dict[str, Any]]) -> None:
    """Answer listHosts with these pages; their cursors are "", "1", "2", …"""

    def answer(query: dict[str, str]) -> tuple[int, Any]:
        number = int(query.get("cursor", "0"))
        more = {"cursor": str(number + 1)} if number + 1 < len(pages) else {}
        return 200, {"hosts": pages[number], **more}

    relay.answers[LIST] = answer


def pulled(typed: Typed, relay: Web, *words: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Exit code, host → outcome with its detail, and the summary."""
    code, out, _err = typed("pull-hosts", "--relay", relay.url, "--json", *words)
    *rows, summary = [json.loads(line) for line in out.splitlines()]
    assert set(summary) == {"done", "cursor", "outcomes"}
    assert sum(summary["outcomes"].values()) == len(rows)
    return code, {r["host"]: f"{r['outcome']} {r['detail']}".strip() for r in rows}, summary


def test_the_hosts_of_another_relay_are_added_each_with_its_line(
    world: list[Web], database: Database, typed: Typed
) -> None:
    relay, first, second, broken, here, third = world
    silent = f"localhost:{free_port()}"
    broken.answers[DESCRIBE] = lambda _query: (500, {})
    database.execute("INSERT INTO host (hostname, account_limit) VALUES (%s, 1)", (here.name,))
    lists(
        relay,
        [row(first.url), row(second.url, "idle"), row("gone.example", "offline"), row(here.url)],
        [row(broken.url), row(f"http://{silent}"), row("new.example", seq=None),
         row("zero.example", seq=0), row("a/b.example"), row(third.url), row(first.url),
         row("worse.example", "banned")],
    )  # fmt: skip
    code, found, summary = pulled(typed, relay)
    assert code == 0
    assert found.pop(f"{silent}").startswith("failed ")
    assert found == {
        first.name: "exists", second.name: "added", here.name: "exists", third.name: "added",
        broken.name: "failed its describeServer answers 500",
        "gone.example": "skipped status=offline", "worse.example": "skipped status=banned",
        "new.example": "skipped no-cursor", "zero.example": "skipped no-cursor",
        "a/b.example": "skipped non-public",
    }  # fmt: skip
    assert summary["done"] is True
    assert summary["cursor"] is None
    assert summary["outcomes"]["added"] == 3
    rows = database.execute(
        "SELECT hostname, tls, cursor, added_by, server_did, account_limit FROM host"
        " WHERE added_by = 'relay' ORDER BY id"
    ).fetchall()
    assert sorted(rows) == sorted(
        (web.name, False, None, "relay", f"did:web:{number}.example", 100)
        for number, web in ((0, first), (1, second), (4, third))
    )
    # Once more: who is here is not asked again.
    before = len(first.asked)
    code, found, summary = pulled(typed, relay)
    assert (code, found[first.name], found[second.name]) == (0, "exists", "exists")
    assert "added" not in summary["outcomes"]
    assert len(first.asked) == before


def test_people_get_a_line_for_each_host(world: list[Web], typed: Typed) -> None:
    relay, first, second, *_ = world
    lists(relay, [row(first.url), row("x\x1b[2J.example", "offline")], [row(second.url)])
    code, out, _err = typed("pull-hosts", "--relay", relay.url)
    assert code == 0
    assert out.splitlines() == [
        "x\\x1b[2J.example: status=offline",
        f"{first.name}: added",
        f"{second.name}: added",
        "2 added, 1 skipped",
    ]


def test_hosts_of_a_banned_domain_are_not_added(
    world: list[Web], database: Database, typed: Typed
) -> None:
    relay, first, *_ = world
    lists(relay, [row(first.url)])
    typed("domains", "ban", "localhost")
    _code, found, _summary = pulled(typed, relay)
    assert found == {first.name: "banned localhost"}
    assert first.asked == []


def test_it_may_be_ended_early_and_gone_on_with(
    world: list[Web], database: Database, typed: Typed
) -> None:
    relay, *hosts = world
    lists(relay, [row(web.url) for web in hosts[:3]], [row(web.url) for web in hosts[3:]])
    code, _found, summary = pulled(typed, relay, "--limit", "2", "--rate", "1000")
    assert (code, summary["outcomes"]["added"]) == (0, 2)
    code, found, summary = pulled(typed, relay, "--cursor", "1", "--no-check")
    assert (code, set(found)) == (0, {web.name for web in hosts[3:]})
    assert [web.asked for web in hosts[3:]] == [[], []]
    code, _found, summary = pulled(typed, relay, "--accounts", "9")
    assert summary["outcomes"] == {"exists": 4, "added": 1}
    limits = database.execute("SELECT account_limit FROM host ORDER BY id").fetchall()
    assert limits[-1] == (9,)


def test_hosts_are_asked_at_a_bounded_rate(world: list[Web], typed: Typed) -> None:
    relay, *hosts = world
    lists(relay, [row(web.url) for web in hosts])
    # From here, since the first request may be on its way for long.
    began_s = time.monotonic()
    assert pulled(typed, relay, "--rate", "20")[0] == 0
    last_s = max(at_s for web in hosts for at_s, _path in web.asked)
    assert last_s - began_s >= (len(hosts) - 1) / 20


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        pytest.param(500, {}, "listHosts answers 500", id="a failure"),
        pytest.param(200, b"<html>", "no JSON", id="no JSON"),
        pytest.param(200, {"hosts": 1}, "no list of hosts", id="no list"),
        pytest.param(200, {"hosts": [row("a.example", "offline")], "cursor": "again"},
                     "comes back to the cursor again", id="a loop"),
    ],
)  # fmt: skip
def test_another_relay_that_answers_nonsense_is_told(
    status: int, body: Any, why: str, world: list[Web], typed: Typed
) -> None:
    relay = world[0]
    relay.answers[LIST] = lambda _query: (status, body)
    code, out, err = typed("pull-hosts", "--relay", relay.url)
    assert code == 1
    assert why in err
    assert "to go on: standpipe pull-hosts" in out


@pytest.mark.usefixtures("world")
def test_a_relay_has_to_be_named(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDPIPE_RELAY_HOST", "")
    code, _out, err = typed("pull-hosts")
    assert (code, "name a relay with --relay" in err) == (1, True)
    assert typed("pull-hosts", "--relay", "ftp://relay.example")[0] == 2
    assert typed("pull-hosts", "--rate", "0")[0] == 2


def test_an_interrupted_run_says_where_to_go_on(
    world: list[Web], database: Database, postgres_url: str
) -> None:
    relay, first, hanging, *_ = world
    free = threading.Event()

    def hang(_query: dict[str, str]) -> tuple[int, Any]:
        free.wait(60)
        return 200, {}

    hanging.answers[DESCRIBE] = hang
    lists(relay, [row(first.url)], [row(hanging.url)])
    with subprocess.Popen(
        [sys.executable, "-m", "common.command", "pull-hosts", "--relay", relay.url],
        cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        eventually(lambda: hanging.asked, 60, "the second page is being worked at")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        free.set()
    assert process.returncode == 1
    assert err == "standpipe: interrupted\n"
    assert out.splitlines() == [
        f"{first.name}: added", "1 added",
        f"to go on: standpipe pull-hosts --relay {relay.url} --cursor 1",
    ]  # fmt: skip
    rows = database.execute("SELECT 1 FROM host WHERE hostname = %s", (first.name,)).fetchall()
    assert rows == [(1,)]


def test_a_host_that_is_added_by_hand_is_asked_too(
    world: list[Web], database: Database, typed: Typed
) -> None:
    _relay, first, broken, nobody, *_ = world
    broken.answers[DESCRIBE] = lambda _query: (200, [])
    nobody.answers[DESCRIBE] = lambda _query: (200, {"did": "nobody"})
    assert typed("hosts", "add", first.url)[:2] == (0, f"{first.name} is added\n")
    rows = database.execute(
        "SELECT tls, cursor, server_did FROM host WHERE hostname = %s", (first.name,)
    ).fetchall()
    assert rows == [(False, 0, "did:web:0.example")]
    for web in (broken, nobody):
        code, out, err = typed("hosts", "add", web.url)
        assert (code, out) == (1, "")
        assert f"{web.name} was not added: its describeServer names no DID" in err
        assert "--no-check adds it all the same" in err


def test_another_name_of_a_host_that_is_here_is_not_added(
    world: list[Web], database: Database, typed: Typed
) -> None:
    relay, first, second, third, *_ = world
    first.describes("did:web:One.example")
    second.describes(f"did:web:{second.name.replace(':', '%3A')}")
    third.describes(f"did:web:{second.name.replace(':', '%3a')}")
    lists(relay, [row(first.url), row(second.url)], [row(third.url)])
    _code, found, _summary = pulled(typed, relay)
    assert found == {
        first.name: "alias one.example", second.name: "added", third.name: f"alias {second.name}",
    }  # fmt: skip
    code, out, err = typed("hosts", "add", first.url)
    assert (code, out) == (1, "")
    assert "it calls itself one.example, which is here" in err
    assert typed("hosts", "add", first.url, "--no-check")[0] == 0


@pytest.mark.parametrize(
    ("did", "other"),
    [
        ("did:web:pds.example.com", None),
        ("did:web:other.example.com", "other.example.com"),
        ("did:web:localhost%3A2583", "localhost:2583"),
        ("did:web:other.example.com:user", None),
        (f"did:plc:{'a' * 24}", None),
    ],
)
def test_a_name_is_read_from_a_did(did: str, other: str | None) -> None:
    assert other_name(did, "pds.example.com") == other


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        pytest.param(Listed("PDS.Example.com", "active", 1), Target("pds.example.com", True),
                     id="one that lives"),
        pytest.param(Listed("pds.example.com", "idle", 1), Target("pds.example.com", True),
                     id="one that is silent"),
        pytest.param(Listed("pds.example.com", "throttled", 1), "status=throttled", id="throttled"),
        pytest.param(Listed("pds.example.com", "active", None), "no-cursor", id="never heard"),
        pytest.param(Listed("pds.example.com", "active", -1), "no-cursor", id="below all numbers"),
        pytest.param(Listed("localhost:2583", "active", 1), "non-public", id="this machine"),
        pytest.param(Listed("http://pds.example.com", "active", 1), "non-public", id="without TLS"),
        pytest.param(Listed("192.0.2.7", "active", 1), "non-public", id="an address"),
        pytest.param(Listed("[::1]", "active", 1), "non-public", id="an address of version 6"),
        pytest.param(Listed("pds.example.com:8443", "active", 1), "non-public", id="a port"),
        pytest.param(Listed("", "active", 1), "non-public", id="nothing"),
        pytest.param(Listed("intranet", "active", 1), "non-public", id="one label"),
    ],
)  # fmt: skip
def test_a_listed_host_is_judged(host: Listed, verdict: Target | str) -> None:
    assert judge(host, allow_insecure=False) == verdict


def test_a_page_is_read_with_whatever_is_in_it() -> None:
    page = parse_page(
        b'{"hosts": [{"hostname": "a.example", "seq": 1, "status": "idle"}, 7,'
        b' {"hostname": 7, "seq": true, "status": []}], "cursor": "next"}'
    )
    assert page == Page([Listed("a.example", "idle", 1), Listed("", "unknown", None)], "next")
    assert parse_page(b'{"hosts": [], "cursor": "next"}').cursor is None
    with pytest.raises(BadPage):
        parse_page(b"[]")
