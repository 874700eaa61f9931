"""Do the runbook's pages work as they are written? Each command is typed, at a relay under load.

What is lost shows in a replay from 0, held against what the hosts said; what is given a number twice, in a
consumer that stayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from common import curve
from tests.fix_net import data_folder, free_port
from tests.relay import ROOT, STOP_S, Relay
from tests.releases import previous
from tests.running.pages import Operator, commands, install
from tests.simnet import Consumer, Network, NetworkConfig, compare
from tests.simnet.config import DEFAULT_MIX
from tests.simnet.delivered import Delivered
from tests.simnet.truth import open_frame

RATE: Final = 40.0
FLOW_S: Final = 60.0
UNCHANGED: Final = ("migrate", "new_key", "silent_key")
"""What is said of an account before one of these cannot be verified any more when it is said again."""
NETWORK: Final = NetworkConfig(
    hosts=2, accounts=6, records=50,
    mix={what: weight for what, weight in DEFAULT_MIX.items() if what not in UNCHANGED},
)  # fmt: skip
PAGES: Final = sorted(
    page.name for page in (ROOT / "docs").glob("*.md") if "```sh" in page.read_text()
)


class House:
    """A network under load, a relay in an operator's folder, and a consumer that stays."""

    def __init__(self, network: Network, relay: Relay, operator: Operator) -> None:
        self.network = network
        self.relay = relay
        self.operator = operator
        self.live = Delivered()

    async def types(self, lines: str) -> str:
        return await asyncio.to_thread(self.operator.types, lines)

    async def starts(self) -> None:
        """As always: `standpipe run`. What ran before was stopped by its page."""
        assert self.relay.process is not None
        assert await asyncio.to_thread(self.relay.process.wait, STOP_S) == 0
        self.relay.spawn()
        await asyncio.to_thread(self.relay.wait_healthy)

    async def flows(self, consumer: Consumer) -> None:
        """Wait until what is said from now on comes out."""
        self.network.settled = self.live.settles(self.network, consumer, FLOW_S)
        before = len(self.network.truth.entries)
        while len(self.network.truth.entries) < before + RATE / 2:
            await asyncio.sleep(0.02)
        await self.network.settled()


def numbered(frames: list[bytes]) -> dict[int, bytes]:
    """The events by their number."""
    found = {}
    for frame in frames:
        kind, body = open_frame(frame)
        if kind != "info":
            found[int(body["seq"])] = frame
    return found


def infos(frames: list[bytes]) -> list[str]:
    """The names of what the relay told."""
    return [str(body["name"]) for kind, body in map(open_frame, frames) if kind == "info"]


Story = Callable[[House, Consumer], Awaitable[None]]


@pytest.fixture
def folder() -> Iterator[Path]:
    with data_folder() as data:
        place = data.parent / "standpipe"
        place.mkdir()
        yield place


def told(folder: Path, story: Story, project: Path = ROOT) -> None:
    """Tell a story to a relay under load, of a project's code that lies in `folder`."""

    async def whole() -> None:
        async with Network(NETWORK) as network:
            relay = Relay(
                plc_url=network.plc_url, hosts=[host.url for host in network.hosts],
                folder=folder, project=folder, environ={"STANDPIPE_INGEST_PROCESSES": "1"},
            )  # fmt: skip
            operator = Operator(folder, relay.environ)
            install(project, folder)
            house = House(network, relay, operator)
            async with relay, Consumer(relay.stream_url, keep=house.live.keep) as consumer:
                network.settled = house.live.settles(network, consumer, FLOW_S)
                load = asyncio.create_task(network.run(RATE, 600.0))
                await consumer.wait_for(
                    lambda: len(house.live.frames) > RATE and network.caught_up(), FLOW_S
                )
                await story(house, consumer)
                network.stop()
                await load

    asyncio.run(asyncio.wait_for(whole(), 600))


async def lost_nothing(house: House) -> None:
    """All that was said so far is in the log, once and in order; no number was given twice."""
    house.network.set_rate(0.001)
    replayed = Delivered()
    async with Consumer(house.relay.stream_url, keep=replayed.keep) as replay:
        said = -1
        with contextlib.suppress(TimeoutError):  # then the report says what is missing
            # What had begun goes on: who fell silent speaks again.
            while said != len(house.network.truth.entries):
                said = len(house.network.truth.entries)
                await replay.wait_for(replayed.everything(house.network), FLOW_S)
    report = compare(house.network.truth, replayed.frames)
    assert report.ok, report.as_dict()
    assert given_twice(house, replayed.frames) == []
    house.network.set_rate(RATE)


def given_twice(house: House, frames: list[bytes]) -> list[int]:
    """Numbers under which the consumer that stayed has seen another event."""
    seen = numbered(house.live.frames)
    return [seq for seq, frame in numbered(frames).items() if seen.get(seq, frame) != frame]


def test_a_backup_is_taken_under_load_and_restored(folder: Path) -> None:
    async def story(house: House, consumer: Consumer) -> None:
        out = await house.types(commands("backup.md", "Back up, while the relay runs"))
        assert out.rstrip().endswith("sound"), out
        backed_up = max(numbered(house.live.frames))
        await house.flows(consumer)
        reached = max(numbered(house.live.frames))
        assert reached > backed_up
        # The folder is lost, with all that came since.
        out = await house.types(commands("backup.md", "Restore both"))
        assert "\nsound\n" in out, out
        await house.starts()
        await house.flows(consumer)
        await lost_nothing(house)
        assert max(numbered(house.live.frames)) > reached + 1_000_000
        assert not (folder / "data" / "log" / "restored").exists()
        # The database alone is lost, and the dump is an old one.
        await house.types(commands("backup.md", "Restore the database alone"))
        await house.starts()
        await house.flows(consumer)
        await lost_nothing(house)
        out = await house.types(commands("backup.md", "Look whether all is well"))
        assert "\nsound\n" in out, out

    told(folder, story)


@pytest.mark.slow
def test_a_lost_log_is_restored_and_its_consumers_are_told(folder: Path) -> None:
    async def story(house: House, consumer: Consumer) -> None:
        await house.types(commands("backup.md", "Back up, while the relay runs"))
        await house.flows(consumer)
        reached = max(numbered(house.live.frames))
        await house.types(commands("backup.md", "Restore the log alone"))
        await house.starts()
        await consumer.wait_for(lambda: max(numbered(house.live.frames)) > reached, FLOW_S)
        assert "Gap" in infos(house.live.frames)
        out = await house.types(commands("backup.md", "Look whether all is well"))
        assert "\nsound\n" in out, out
        async with Consumer(house.relay.stream_url) as replay:
            await replay.wait_for(lambda: (replay.cursor or 0) > reached, FLOW_S)
        assert given_twice(house, replay.frames) == []
        assert "Gap" in infos(replay.frames)

    told(folder, story)


def test_a_relay_moves_to_another_machine(folder: Path) -> None:
    there = folder.parent / "there"
    there.mkdir()

    async def story(house: House, consumer: Consumer) -> None:
        here, away = page_of_two_machines()
        out = await house.types(here)
        assert "\nsound\n" in out, out
        reached = max(numbered(house.live.frames))
        shutil.move(folder / "relay.tar", there)
        house.operator = Operator(there, house.operator.environ)
        install(ROOT, there)
        out = await house.types(away)
        assert "\nsound\n" in out, out
        # The same name, as consumers see it.
        house.relay.project = there
        house.relay.data = there / "data"
        house.relay.environ["STANDPIPE_DATA_DIR"] = str(there / "data")
        await house.starts()
        await house.flows(consumer)
        await lost_nothing(house)
        assert reached + 1 in numbered(house.live.frames)
        assert infos(house.live.frames) == []

    told(folder, story)


def page_of_two_machines() -> tuple[str, str]:
    """The lines of docs/moving.md for the old machine, and those for the new one."""
    old, mark, new = commands("moving.md").partition("tar -xf")
    assert mark
    return old, mark + new


def test_a_release_is_upgraded_and_rolled_back(folder: Path) -> None:
    with data_folder() as data:
        before = previous.unpack(data.parent / "before")
        source = repository(data.parent / "source", before)

        async def story(house: House, consumer: Consumer) -> None:
            git(folder, "init", "-q", "-b", "main")
            git(folder, "remote", "add", "origin", str(source))
            git(folder, "fetch", "-q", "origin")
            git(folder, "reset", "-q", "--hard", "origin/main~1")
            git(folder, "branch", "-q", "--set-upstream-to", "origin/main")
            # Nothing has to be installed: our environment serves both.
            (folder / ".venv" / ".built").touch()
            out = await house.types(
                "touch -d 2000-01-01 requirements.lock .ci/venv\n"
                + commands("upgrade.md", "Upgrade")
                .partition(".venv/bin/standpipe status")[0]
                .replace("make ", "touch .venv/.built; make ")
            )
            assert "Fast-forward" in out
            await house.starts()
            await house.flows(consumer)
            await lost_nothing(house)
            out = await house.types(".venv/bin/standpipe status\n.venv/bin/standpipe log verify\n")
            assert "\nsound\n" in out, out
            upgraded = max(numbered(house.live.frames))
            await house.types(
                commands("upgrade.md", "Rollback").replace("make ", "touch .venv/.built; make ")
            )
            assert git(folder, "rev-parse", "HEAD") == git(source, "rev-parse", "main~1")
            await house.starts()
            await house.flows(consumer)
            await lost_nothing(house)
            assert upgraded + 1 in numbered(house.live.frames)
            assert infos(house.live.frames) == []

        told(folder, story, before)


def repository(folder: Path, before: Path) -> Path:
    """A repository with two commits: the release before, and this one as it lies here."""
    shutil.copytree(before, folder)
    for name in ("Makefile", "requirements.lock", ".ci"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "before")
    install(ROOT, folder)
    commit(folder, "this")
    return folder


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", message)


def git(folder: Path, *words: str) -> str:
    environ = {
        "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@test", "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@test",
    }  # fmt: skip
    return subprocess.run(
        ["git", *words], cwd=folder, env=environ, capture_output=True, text=True, check=True
    ).stdout.strip()


async def settles(house: House, lines: str, *, spare: bool) -> None:
    """Type the lines, of which the last one looks; a busy machine takes longer than the page says."""
    *before, look = lines.splitlines()
    await house.types("\n".join(before))
    async with asyncio.timeout(FLOW_S):
        out = ""
        while "every shard is read" not in out or ("\ningest-2 " in out) is not spare:
            out = await house.types(f"{look} || true")


def test_a_spare_is_started_and_stopped_and_a_machine_is_let_in_as_the_page_says(
    folder: Path,
) -> None:
    there = folder.parent / "there"
    there.mkdir()

    async def story(house: House, consumer: Consumer) -> None:
        await settles(house, commands("scaling.md", "Start a spare"), spare=True)
        await house.flows(consumer)
        await settles(house, commands("scaling.md", "Stop it again"), spare=False)
        await house.flows(consumer)
        out = await house.types(commands("scaling.md", "Another machine"))
        assert "STANDPIPE_CURVE_DIR=" in out, out
        shutil.move(folder / "second.tar", there)
        await asyncio.to_thread(
            Operator(there, house.operator.environ).types,
            commands("scaling.md", "On the other machine"),
        )
        keys = curve.client_keys(there / "keys" / "second")
        assert keys.server == curve.server_keys(folder / "keys" / "persist").public
        # As persist is started with them.
        house.relay.environ |= {
            "STANDPIPE_CURVE_DIR": "keys/persist",
            "STANDPIPE_BATCHES_BIND": f"tcp://127.0.0.1:{free_port()}",
        }
        await house.types(".venv/bin/standpipe stop\n")
        await house.starts()
        await house.flows(consumer)
        await house.types(commands("scaling.md", "A new key for persist"))
        assert keys.server != curve.server_keys(folder / "keys" / "persist").public
        await lost_nothing(house)

    told(folder, story)


def test_every_command_of_every_page_is_typed_by_a_test() -> None:
    """A page that gains a section gains a test of it, and so does a new page with commands."""
    assert PAGES
    text = Path(__file__).read_text()
    for page in PAGES:
        begin, *sections = (ROOT / "docs" / page).read_text().split("\n## ")
        if "```sh" in begin:
            assert f'commands("{page}")' in text, page
        for section in sections:
            heading = section.partition("\n")[0]
            if "```sh" in section:
                assert f'commands("{page}", "{heading}")' in text, (page, heading)
