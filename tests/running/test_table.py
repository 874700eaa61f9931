"""Does supervisord read the table as it is meant, whatever the paths and settings are?"""

from __future__ import annotations

import configparser
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from supervisor.options import ServerOptions

from common.command.table import Place, TableError, render
from common.paths import Paths
from common.process import DRAIN_DEADLINE_S, MIN_LIFE_S
from common.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = (ROOT / "supervisord.conf").read_text()


def read_by_supervisord(path: Path) -> ServerOptions:
    options = ServerOptions()
    options.realize(["-n", "-c", str(path)])
    return options


def rendered(data_dir: Path, place: Place | None = None, **environ: str) -> str:
    settings = load_settings({"STANDPIPE_DATA_DIR": str(data_dir), **environ})
    return render(SOURCE, settings, Paths.of(settings), place or Place(ROOT, Path(sys.executable)))


def table_of(text: str) -> configparser.RawConfigParser:
    table = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    table.read_string(text)
    return table


def programs(table: configparser.RawConfigParser) -> list[str]:
    return [name.partition(":")[2] for name in table.sections() if name.startswith("program:")]


def processes(options: ServerOptions) -> dict[str, Any]:
    """By the names that supervisorctl takes."""
    return {
        f"{group.name}:{process.name}" if group.name != process.name else process.name: process
        for group in options.process_group_configs
        for process in group.process_configs
    }


@pytest.mark.parametrize("name", programs(table_of(SOURCE)))
def test_every_command_starts_a_module_that_exists(name: str) -> None:
    words = shlex.split(table_of(SOURCE)[f"program:{name}"]["command"])
    module = words[words.index("-m") + 1]
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations:
        assert importlib.util.find_spec(f"{module}.__main__") is not None


@pytest.mark.parametrize("name", programs(table_of(SOURCE)))
def test_no_program_is_ever_given_up(name: str) -> None:
    section = table_of(SOURCE)[f"program:{name}"]
    assert int(section["startretries"]) >= 10**9
    assert section["autorestart"] in ("true", "unexpected")
    assert MIN_LIFE_S > int(section["startsecs"]) >= 1
    assert int(section["stopwaitsecs"]) > DRAIN_DEADLINE_S


def test_it_needs_nothing_of_the_environment() -> None:
    assert "%(ENV_" not in SOURCE
    code = (
        "from supervisor.options import ServerOptions\n"
        "options = ServerOptions()\n"
        "options.realize(['-n', '-c', 'supervisord.conf'])\n"
        "print(len(options.process_group_configs))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env={}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "4\n"


def test_it_drains_upstream_first() -> None:
    table = table_of(SOURCE)
    priorities = {
        name: int(table[f"program:{name}"]["priority"])
        for name in programs(table)
        if not name.startswith("ingest")
    }
    # Those of a group have its own.
    priorities["ingest"] = int(table["group:ingest"]["priority"])
    assert table["group:ingest"]["programs"] == "ingest,ingest-spare"
    # supervisord stops the highest first, and waits for each group.
    stopped = sorted(priorities, key=priorities.__getitem__, reverse=True)
    assert stopped == ["ingest", "persist", "broadcast", "postgres"]


def test_its_numbers_of_processes_are_the_settings_defaults() -> None:
    table, settings = table_of(SOURCE), load_settings({})
    assert table["program:ingest"].getint("numprocs") == settings.ingest_processes
    assert table["program:ingest-spare"].getint("numprocs") == settings.ingest_spares
    assert table["program:ingest-spare"].getint("numprocs_start") == settings.ingest_processes
    assert table["program:broadcast"].getint("numprocs") == settings.broadcast_processes


def test_a_spare_is_as_the_others_but_is_not_started() -> None:
    table = table_of(SOURCE)
    first, spare = dict(table["program:ingest"]), dict(table["program:ingest-spare"])
    for name in ("numprocs", "numprocs_start", "autostart", "process_name", "priority"):
        first.pop(name, None)
        spare.pop(name, None)
    assert first == spare
    assert table["program:ingest-spare"]["autostart"] == "false"
    assert table["program:ingest-spare"]["process_name"] == "ingest-%(process_num)d"


def test_supervisord_reads_the_rendered_table(data_dir: Path) -> None:
    project = data_dir.parent / "a folder, 100 % of it"
    project.mkdir()
    path = data_dir.parent / "rendered.conf"
    place = Place(project, Path("/opt/my venv/bin/python"))
    path.write_text(
        rendered(
            data_dir, place,
            STANDPIPE_INGEST_PROCESSES="3", STANDPIPE_BROADCAST_PROCESSES="2",
            STANDPIPE_INGEST_SPARES="1",
        )
    )  # fmt: skip
    (data_dir / "run").mkdir(parents=True)
    options = read_by_supervisord(path)
    found = {p.name: p for group in options.process_group_configs for p in group.process_configs}
    assert sorted(found) == [
        "broadcast-0", "broadcast-1", "ingest-0", "ingest-1", "ingest-2", "ingest-3", "persist",
        "postgres",
    ]  # fmt: skip
    assert [name for name, process in found.items() if not process.autostart] == ["ingest-3"]
    assert shlex.split(found["ingest-2"].command) == [
        "/opt/my venv/bin/python", "-m", "ingest", "--member", "2", "--members", "3",
    ]  # fmt: skip
    assert shlex.split(found["broadcast-1"].command)[-3:] == ["1", "--members", "2"]
    assert found["persist"].directory == str(project)
    assert options.logfile == str(data_dir / "run" / "supervisord.log")
    assert options.silent
    servers = options.configroot.supervisord.server_configs
    assert servers[0]["file"] == str(data_dir / "run" / "supervisor.sock")


def test_a_database_of_ones_own_leaves_the_embedded_one_out(data_dir: Path) -> None:
    table = table_of(rendered(data_dir, DATABASE_URL="postgresql://u:secret@h/d"))
    assert "postgres" not in programs(table)
    assert "secret" not in rendered(data_dir, DATABASE_URL="postgresql://u:secret@h/d")


def rendered_processes(data_dir: Path, **environ: str) -> dict[str, Any]:
    (data_dir / "run").mkdir(parents=True, exist_ok=True)
    path = data_dir / "rendered.conf"
    path.write_text(rendered(data_dir, None, **environ))
    return processes(read_by_supervisord(path))


def test_the_spares_follow_the_others_in_one_group_and_no_number_comes_twice(
    data_dir: Path,
) -> None:
    found = rendered_processes(
        data_dir, STANDPIPE_INGEST_PROCESSES="3", STANDPIPE_INGEST_SPARES="2",
        STANDPIPE_INGEST_FIRST="10",
    )  # fmt: skip
    ingest = {n: process.autostart for n, process in found.items() if n.startswith("ingest")}
    assert ingest == {
        "ingest:ingest-10": True, "ingest:ingest-11": True, "ingest:ingest-12": True,
        "ingest:ingest-13": False, "ingest:ingest-14": False,
    }  # fmt: skip
    members = [shlex.split(found[name].command)[4] for name in ingest]
    assert members == ["10", "11", "12", "13", "14"]


def test_no_spares_are_no_spares(data_dir: Path) -> None:
    found = rendered_processes(data_dir, STANDPIPE_INGEST_SPARES="0")
    assert [name for name in found if name.startswith("ingest")] == [
        "ingest:ingest-0", "ingest:ingest-1",
    ]  # fmt: skip
    assert all(process.autostart for process in found.values())


def test_where_persist_is_on_another_machine_there_is_ingest_and_nothing_else(
    data_dir: Path,
) -> None:
    found = rendered_processes(
        data_dir, STANDPIPE_BATCHES_CONNECT="tcp://10.0.0.1:2700", STANDPIPE_CURVE_DIR="keys",
        DATABASE_URL="postgresql://u@h/d", STANDPIPE_INGEST_FIRST="8",
    )  # fmt: skip
    assert list(found) == [f"ingest:ingest-{number}" for number in (8, 9, 10, 11)]


@pytest.mark.parametrize("mark", [" ;", " #"])
def test_a_path_that_supervisord_would_cut_is_refused(data_dir: Path, mark: str) -> None:
    with pytest.raises(TableError, match=re.escape(mark)):
        rendered(data_dir / f"a{mark}b")
