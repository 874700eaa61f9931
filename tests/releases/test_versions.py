"""Does this release go on with the data of the one before, and does that one leave ours alone?

Both are real: the code of the release before is in an archive beside this file.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from common import database, envelope
from common.paths import Paths
from tests.fix_net import data_folder, eventually
from tests.relay import ROOT, Relay
from tests.releases import previous
from tests.running.fleet import Fleet, Started, fleet_in
from tests.simnet import Consumer, Network, NetworkConfig, compare
from tests.simnet.delivered import Delivered

RATE = 40.0
FLOW_S = 60.0
NETWORK = NetworkConfig(hosts=2, accounts=6, records=50, invalid_share=0.03)


@pytest.fixture(scope="module")
def before() -> Iterator[Path]:
    """The folder of the release before."""
    with data_folder() as folder:
        yield previous.unpack(folder.parent / "before")


@pytest.fixture
def fleet(data_dir: Path) -> Iterator[Fleet]:
    with fleet_in(data_dir) as found:
        yield found


def verified(relay: Relay) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "common.command", "log", "verify"],
        cwd=ROOT, env=relay.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_this_release_goes_on_with_the_data_of_the_one_before(before: Path) -> None:
    async def story() -> None:
        async with Network(NETWORK) as network:
            relay = Relay(
                plc_url=network.plc_url, hosts=[host.url for host in network.hosts], project=before
            )
            live = Delivered()
            async with relay, Consumer(relay.stream_url, keep=live.keep) as consumer:
                network.settled = live.settles(network, consumer, FLOW_S)
                load = asyncio.create_task(network.run(RATE, 300.0))
                await consumer.wait_for(
                    lambda: len(live.frames) > RATE and network.caught_up(), FLOW_S
                )
                assert await asyncio.to_thread(relay.stop) == 0
                at_the_upgrade = len(live.frames)
                relay.project = ROOT
                relay.spawn()
                await asyncio.to_thread(relay.wait_healthy)
                await consumer.wait_for(lambda: len(live.frames) > at_the_upgrade + RATE, FLOW_S)
                # Beside the running relay, under load.
                told = await asyncio.to_thread(verified, relay)
                assert told.returncode == 0, told.stdout + told.stderr
                network.stop()
                await load
                await network.settled()
                async with Consumer(relay.stream_url) as replay:
                    await replay.wait_count(len(live.frames), FLOW_S)
                assert replay.frames == live.frames
                report = compare(network.truth, live.frames)
                assert report.ok, report.as_dict()
                assert await asyncio.to_thread(relay.stop) == 0
                told = await asyncio.to_thread(verified, relay)
                assert told.returncode == 0, told.stdout + told.stderr
                assert "sound" in told.stdout

    asyncio.run(asyncio.wait_for(story(), 480))


def fingerprint(data_dir: Path, url: str) -> dict[str, Any]:
    """Everything that a release could have changed."""
    found: dict[str, Any] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (data_dir / "log").iterdir()
    }
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
            " ORDER BY 1"
        ).fetchall()
        for (name,) in tables:
            found[f"table {name}"] = connection.execute(f"SELECT * FROM {name}").fetchall()
    return found


def with_database(fleet: Fleet) -> tuple[Started, str]:
    """The database, as this release runs it, and its connection string."""
    paths = Paths(fleet.data_dir)
    server = fleet.start("common.postgres")

    def answers() -> str | None:
        try:
            url = paths.embedded_database_url
            psycopg.connect(url, connect_timeout=5).close()
        except (OSError, psycopg.OperationalError):
            return None
        return url

    url = eventually(answers, 60, "the database answers")
    assert url is not None
    return server, url


def refusal(started: Started) -> str:
    """How a process ended that refuses: exit code 1, and its last line says why."""
    assert started.end() == 1
    return str(started.lines()[-1]["msg"])


def test_the_release_before_refuses_our_data_by_name_and_changes_nothing(
    fleet: Fleet, before: Path
) -> None:
    _server, url = with_database(fleet)
    ours = fleet.start("persist")
    ours.wait_says("ready")
    ours.signal()
    assert ours.end() == 0
    kept = fingerprint(fleet.data_dir, url)
    assert any(name.endswith(".seg") for name in kept)
    assert kept["table relay"]
    theirs = fleet.start_in(before, "persist")
    assert (
        f"the database has schema version {database.SCHEMA_VERSION}, this release needs "
        f"{previous.SCHEMA_VERSION}: start the release that made it"
    ) in refusal(theirs)
    # Without it, the others of that release do nothing, and say what they wait for.
    for stage in ("ingest", "broadcast"):
        member = fleet.start_in(before, stage)
        member.wait_says("waiting for persist")
        member.signal(signal.SIGTERM)
        assert member.end() == 0
    assert fingerprint(fleet.data_dir, url) == kept


def test_an_ingest_process_of_the_release_before_is_named_by_our_persist(
    fleet: Fleet, before: Path
) -> None:
    """persist alone is brought up to this release, beneath an ingest process that goes on."""
    with_database(fleet)
    theirs = fleet.start_in(before, "persist")
    theirs.wait_says("ready")
    ingest = fleet.start_in(before, "ingest")
    ingest.wait_says("ready")
    theirs.signal(signal.SIGTERM)
    assert theirs.end() == 0
    ours = fleet.start("persist")
    ours.wait_says("ready")
    named = ours.wait_says(
        f"message version {previous.ENVELOPE_VERSION}, this process speaks {envelope.VERSION}"
    )
    assert named["level"] == "error"
    # Neither ends: the relay goes on as soon as ingest is of this release too.
    assert ours.process.poll() is None
    assert ingest.process.poll() is None
    ingest.signal(signal.SIGTERM)
    assert ingest.end() == 0
    successor = fleet.start("ingest")
    successor.wait_says("ready")


def test_ours_refuse_the_database_of_a_later_release_by_name(fleet: Fleet) -> None:
    _server, url = with_database(fleet)
    persist = fleet.start("persist")
    persist.wait_says("ready")
    later = database.SCHEMA_VERSION + 1
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE relay SET value = %s WHERE name = 'schema_version'", (later,))
    for stage in ("ingest", "broadcast"):
        assert f"the database has schema version {later}" in refusal(fleet.start(stage))
    persist.signal()
    assert persist.end() == 0
    kept = fingerprint(fleet.data_dir, url)
    assert f"the database has schema version {later}" in refusal(fleet.start("persist"))
    assert fingerprint(fleet.data_dir, url) == kept
