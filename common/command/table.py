"""Which processes shall run? supervisord.conf, with the operator's settings worked in.

On a machine whose persist is on another one (STANDPIPE_BATCHES_CONNECT): ingest, and nothing else.

Text in, text out: no file is read or written here.
"""

from __future__ import annotations

import configparser
import io
import shlex
from dataclasses import dataclass
from pathlib import Path

from common.paths import Paths
from common.settings import Settings

_HERE = "%(here)s"


class TableError(ValueError):
    """supervisord could not read the table; the message says which value it would misread."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the program is. project: the folder with the stages. python: its interpreter."""

    project: Path
    python: Path


def render(source: str, settings: Settings, paths: Paths, place: Place) -> str:
    """The process table in force.

    Args:
        source: the text of supervisord.conf.

    Raises:
        TableError: a path holds what supervisord takes for a comment.
    """
    table = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    table.optionxform = str  # type: ignore[assignment, method-assign]
    table.read_string(source)
    socket = str(paths.supervisor_socket)
    table["supervisord"].update(
        {
            "silent": "true",
            "logfile": _escaped(str(paths.run_dir / "supervisord.log")),
            "logfile_maxbytes": "1MB",
            "logfile_backups": "1",
            "pidfile": _escaped(str(paths.run_dir / "supervisord.pid")),
        }
    )
    table["unix_http_server"]["file"] = _escaped(socket)
    table["supervisorctl"]["serverurl"] = _escaped(f"unix://{socket}")
    if settings.database_url is not None:
        table.remove_section("program:postgres")
    if settings.batches_connect:
        table.remove_section("program:persist")
        table.remove_section("program:broadcast")
    else:
        table["program:broadcast"]["numprocs"] = str(settings.broadcast_processes)
    _number_ingest(table, settings)
    for name in table.sections():
        if name.startswith("program:"):
            section = table[name]
            words = section["command"].replace(f"{_HERE}/.venv/bin/python ", "", 1)
            section["command"] = f"{_escaped(shlex.quote(str(place.python)))} {words}"
            section["directory"] = _escaped(str(place.project))
    out = io.StringIO()
    table.write(out, space_around_delimiters=False)
    return out.getvalue()


def _number_ingest(table: configparser.RawConfigParser, settings: Settings) -> None:
    """Those that are started, and behind them the spares, which are not."""
    table["program:ingest"]["numprocs"] = str(settings.ingest_processes)
    table["program:ingest"]["numprocs_start"] = str(settings.ingest_first)
    if settings.ingest_spares:
        spare = table["program:ingest-spare"]
        spare["numprocs"] = str(settings.ingest_spares)
        spare["numprocs_start"] = str(settings.ingest_first + settings.ingest_processes)
    else:
        table.remove_section("program:ingest-spare")
        table["group:ingest"]["programs"] = "ingest"


def _escaped(text: str) -> str:
    """A value as supervisord has to find it: percent signs doubled, nothing like a comment."""
    if any(mark in text for mark in (" ;", " #", "\n")):
        raise TableError(f"supervisord cannot be told of the path {text!r}: it would take what "
                         f"follows the blank for a comment; use another folder")  # fmt: skip
    return text.replace("%", "%%")
