"""`standpipe probe`: does it see what a consumer would, over a real socket, whatever the other side does?"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cbor2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from common.command.probe import stream_url
from common.command.probed import FAULTS_KEPT, Probed, probed_text, probed_value
from common.frame import ERROR_HEADER, IDENTITY_HEADER, INFO_HEADER
from tests.fix_net import free_port
from tests.running.typed import Typed

DID = f"did:plc:{'a' * 24}"
Script = Callable[[ServerConnection], None]


def identity(seq: int) -> bytes:
    payload = {"seq": seq, "did": DID, "time": "2026-01-02T03:04:05.000Z"}
    return IDENTITY_HEADER + cbor2.dumps(payload, canonical=True)


INFO = INFO_HEADER + cbor2.dumps({"name": "OutdatedCursor"}, canonical=True)
SLOW = ERROR_HEADER + cbor2.dumps({"error": "ConsumerTooSlow", "message": "x"}, canonical=True)


@contextmanager
def relay(script: Script) -> Iterator[str]:
    """A server whose stream is a script; its URL without the path.

    Who connects has all that the script says before it begins to look at its clock.
    """
    said = threading.Event()

    def tell(connection: ServerConnection) -> None:
        try:
            script(connection)
            connection.ping().wait(60)
        except (ConnectionClosed, OSError):
            pass
        finally:
            said.set()
        # Nothing more, until the other side goes.
        for _ in connection:
            pass

    def connected(*args: Any, **options: Any) -> ClientConnection:
        connection: ClientConnection = connect(*args, **options)
        assert said.wait(60)
        return connection

    with serve(tell, "127.0.0.1", 0) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.command.probe.connect", connected)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def says(*messages: bytes | str) -> Script:
    """Say these."""

    def script(connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path == "/xrpc/com.atproto.sync.subscribeRepos"
        for message in messages:
            connection.send(message)

    return script


def probed(typed: Typed, script: Script, *words: str) -> tuple[int, dict[str, object]]:
    with relay(script) as url:
        code, out, err = typed("probe", "--url", url, "--seconds", "0.5", "--json", *words)
    assert err == ""
    told: dict[str, object] = json.loads(out)
    assert told["ok"] is (code == 0)
    return code, told


def test_a_stream_that_flows_is_told_with_its_rate(typed: Typed) -> None:
    events = [identity(seq) for seq in (5, 6, 9)]
    code, told = probed(typed, says(*events, INFO), "--min-fps", "0.1")
    assert code == 0
    assert (told["events"], told["first_seq"], told["last_seq"], told["missed"]) == (3, 5, 9, 2)
    assert (told["kinds"], told["infos"], told["faults"]) == (
        {"identity": 3}, ["OutdatedCursor"], [],
    )  # fmt: skip
    assert isinstance(told["seconds"], float)
    assert told["seconds"] >= 0.5
    assert told["fps"] == pytest.approx(3 / told["seconds"], rel=0.01)
    assert told["bytes"] == 3 * len(identity(5)) + len(INFO)


def test_too_few_events_fail(typed: Typed) -> None:
    assert probed(typed, says())[0] == 1
    assert probed(typed, says(), "--min-fps", "0")[0] == 0
    assert probed(typed, says(identity(1), identity(2)), "--min-fps", "1000")[0] == 1


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        pytest.param(says(identity(2), identity(2)), "seq 2 after 2", id="a seq twice"),
        pytest.param(says(identity(2), identity(1)), "seq 1 after 2", id="a seq that falls"),
        pytest.param(says(identity(1), "hello"), "a text message", id="text"),
        pytest.param(says(identity(1), b"\xff"), "malformed_frame", id="no CBOR"),
        pytest.param(says(identity(1), SLOW), "ConsumerTooSlow: x", id="an error frame"),
        pytest.param(lambda connection: connection.close(), "the connection ended",
                     id="a farewell"),
        pytest.param(lambda connection: connection.socket.close(), "the connection ended",
                     id="a break"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_stream_is_named(script: Script, fault: str, typed: Typed) -> None:
    code, told = probed(typed, script, "--min-fps", "0")
    assert code == 1
    assert isinstance(told["faults"], list)
    assert fault in told["faults"][0]


def test_nobody_there_is_told(typed: Typed) -> None:
    code, out, _err = typed("probe", "--url", f"ws://127.0.0.1:{free_port()}")
    assert code == 1
    assert out.startswith("NOT OK: ws://127.0.0.1:")
    assert "fault: no connection: " in out
    code, out, _err = typed("probe", "--url", "https://nobody.invalid", "--json")
    assert (code, json.loads(out)["connected"]) == (1, False)


def test_a_server_that_is_no_relay_is_told(typed: Typed) -> None:
    def refuses(connection: ServerConnection) -> None:
        raise AssertionError("it was refused")

    with serve(
        refuses, "127.0.0.1", 0,
        process_request=lambda connection, _request: connection.respond(502, "bad gateway"),
    ) as server:  # fmt: skip
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        code, out, _err = typed("probe", "--url", url, "--min-fps", "0")
        server.shutdown()
        thread.join()
    assert code == 1
    assert "HTTP 502" in out


def test_people_read_it_in_three_lines() -> None:
    found = Probed("wss://a.example")
    found.connected, found.connect_s, found.seconds = True, 0.25, 2.0
    for seq in (1000, 1001, 1003):
        found.take(identity(seq), 0.5)
    assert probed_text(found, 1.0).splitlines() == [
        "ok: wss://a.example",
        "connected within 0.25 s; 3 events in 2.0 s, 1.5 a second (at least 1 wanted)",
        "seq 1,000 to 1,003, 1 left out: 3 identity",
    ]
    assert probed_value(found, 1.0)["first_event_s"] == 0.5
    for _ in range(2 * FAULTS_KEPT):
        found.fault("a lie")
    assert len(found.faults) == FAULTS_KEPT


@pytest.mark.parametrize(
    ("word", "url"),
    [
        ("relay.example.com", "wss://relay.example.com/xrpc/com.atproto.sync.subscribeRepos"),
        ("http://localhost:2470/", "ws://localhost:2470/xrpc/com.atproto.sync.subscribeRepos"),
        ("wss://a.example/x?cursor=0", "wss://a.example/x?cursor=0"),
    ],
)
def test_a_relay_is_named_in_several_ways(word: str, url: str) -> None:
    assert stream_url(word) == url


@pytest.mark.parametrize("word", ["ftp://a.example", "https://", "ws://a:b:c"])
def test_what_names_no_relay_is_refused(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        stream_url(word)
