"""Who comes in over TCP? Who has a key that persist knows, for the persist that he means; nobody else."""

from __future__ import annotations

import contextlib
import os
import socket as tcp
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import zmq

from common import curve
from common.envelope import Batch, ShardClaim, encode_batch
from common.transport import batch_outlet
from persist.inlet import Inlet, Others
from persist.metrics import REFUSED_LINKS
from tests.fix_net import eventually, free_port


class Door(NamedTuple):
    """An inlet that is open to this machine and, with keys, to others."""

    inlet: Inlet
    ipc: str
    tcp: str
    keys: Path


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    curve.make(tmp_path / "keys", ["ingest"])
    return tmp_path / "keys"


@pytest.fixture
def door(tmp_path: Path, keys: Path) -> Iterator[Door]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    ipc, address = f"ipc://{tmp_path}/batches", f"tcp://127.0.0.1:{free_port()}"
    inlet = Inlet(context, ipc, Others(address, curve.server_keys(keys / "persist")))
    try:
        yield Door(inlet, ipc, address, keys)
    finally:
        inlet.close()
        context.term()


@contextlib.contextmanager
def outlet(endpoint: str, keys: curve.ClientKeys | None) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = batch_outlet(context, 1, keys)
    socket.connect(endpoint)
    try:
        yield socket
    finally:
        socket.close(0)
        context.term()


def refused() -> dict[str, float]:
    return {
        reason: REFUSED_LINKS.labels(reason)._value.get() for reason in ("no_key", "unknown_key")
    }


def comes(door: Door, endpoint: str, keys: curve.ClientKeys | None) -> bool:
    """Whether what is sent so arrives, before somebody is refused."""
    before = refused()
    with outlet(endpoint, keys) as socket:
        socket.send_multipart(encode_batch(Batch(1, 7, claims=[ShardClaim(3, 9)])))

        def settled() -> bool | None:
            received = door.inlet.receive()
            if received is not None:
                assert received[1].claims == [ShardClaim(3, 9)]
                return True
            return None if refused() == before else False

        ends_s = time.monotonic() + 60
        while (found := settled()) is None:
            assert time.monotonic() < ends_s
            time.sleep(0.005)
        return found


def test_this_machine_needs_no_key_and_another_one_its_own(door: Door) -> None:
    before = refused()
    assert comes(door, door.ipc, None)
    assert comes(door, door.tcp, curve.client_keys(door.keys / "ingest"))
    assert refused() == before


def test_a_key_that_persist_does_not_know_is_refused_and_counted(door: Door) -> None:
    before = refused()
    known = curve.client_keys(door.keys / "ingest")
    stranger = curve.ClientKeys(zmq.curve_keypair()[1], known.server)
    assert not comes(door, door.tcp, stranger)
    assert refused() == {"no_key": before["no_key"], "unknown_key": before["unknown_key"] + 1}


def test_no_key_and_one_for_another_persist_are_refused_and_counted(door: Door) -> None:
    known = curve.client_keys(door.keys / "ingest")
    other = curve.ClientKeys(known.secret, zmq.curve_keypair()[0])
    for keys in (None, other):
        before = refused()
        assert not comes(door, door.tcp, keys)
        assert refused()["no_key"] > before["no_key"]
        assert refused()["unknown_key"] == before["unknown_key"]
    assert comes(door, door.tcp, known), "and nobody else suffers by it"


def test_what_is_no_zeromq_harms_nobody(door: Door) -> None:
    host, _, port = door.tcp.removeprefix("tcp://").partition(":")
    for said in (b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", os.urandom(500)):
        with tcp.create_connection((host, int(port))) as stranger:
            stranger.sendall(said)
    assert comes(door, door.tcp, curve.client_keys(door.keys / "ingest"))


def test_a_machine_is_let_in_and_shut_out_without_a_restart(door: Door) -> None:
    curve.make(door.keys, ["second"])
    second = curve.client_keys(door.keys / "second")
    eventually(lambda: comes(door, door.tcp, second), 20.0, "the new one to be let in")
    (door.keys / "persist" / "clients" / "second.pub").unlink()
    eventually(lambda: not comes(door, door.tcp, second), 20.0, "it to be shut out")
    assert comes(door, door.tcp, curve.client_keys(door.keys / "ingest"))


def test_who_is_refused_is_told_in_the_log_now_and_then(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    known = curve.client_keys(door.keys / "ingest")
    for _ in range(5):
        assert not comes(door, door.tcp, curve.ClientKeys(zmq.curve_keypair()[1], known.server))
    said = [record for record in caplog.records if "was refused" in record.getMessage()]
    assert len(said) == 1
    assert said[0].fields["reason"] == "unknown_key"  # type: ignore[attr-defined]
    assert said[0].fields["address"] == "127.0.0.1"  # type: ignore[attr-defined]


def test_an_address_that_is_taken_leaves_nothing_open(tmp_path: Path, keys: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with tcp.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(zmq.ZMQError):
            Inlet(
                context, f"ipc://{tmp_path}/b", Others(address, curve.server_keys(keys / "persist"))
            )
    context.term()


# --- the files ---


def test_only_its_owner_reads_a_key_and_no_secret_leaves_its_machine(keys: Path) -> None:
    for path in keys.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert sorted(str(path.relative_to(keys)) for path in keys.rglob("*") if path.is_file()) == [
        "ingest/client.key", "ingest/server.pub", "persist/clients/ingest.pub", "persist/server.key",
    ]  # fmt: skip
    secret = (keys / "persist" / "server.key").read_bytes()
    assert all(secret not in path.read_bytes() for path in (keys / "ingest").iterdir())


def test_keys_are_never_overwritten(keys: Path) -> None:
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    for names in (["ingest"], ["new", "ingest"], ["persist"]):
        with pytest.raises(curve.BadKeys, match="is there already"):
            curve.make(keys, names)
    assert {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["client.key", "server.pub"])
@pytest.mark.parametrize("damage", ["missing", "empty", "short", "no key"])
def test_a_key_that_cannot_serve_is_refused_by_its_name(keys: Path, name: str, damage: str) -> None:
    path = keys / "ingest" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "short": b"abc", "no key": b'"' * 40}[damage])
    with pytest.raises(curve.BadKeys, match=name):
        curve.client_keys(keys / "ingest")


def test_a_secret_that_others_can_read_is_refused(keys: Path) -> None:
    for path in (keys / "ingest" / "client.key", keys / "persist" / "server.key"):
        path.chmod(0o640)
        with pytest.raises(curve.BadKeys, match="chmod 600"):
            (curve.client_keys if path.name == "client.key" else curve.server_keys)(path.parent)


def test_a_file_that_is_no_key_keeps_no_other_out(keys: Path) -> None:
    clients = keys / "persist" / "clients"
    before = curve.allowed(clients)
    assert len(before) == 1
    (clients / "half.pub").write_bytes(b"abc")
    (clients / "notes.txt").write_bytes(b"abc")
    assert curve.allowed(clients) == before


def test_without_a_folder_of_clients_persist_says_so(keys: Path) -> None:
    (keys / "persist" / "clients" / "ingest.pub").unlink()
    (keys / "persist" / "clients").rmdir()
    with pytest.raises(curve.BadKeys, match="nobody would be let in"):
        curve.server_keys(keys / "persist")
