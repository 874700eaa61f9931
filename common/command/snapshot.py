"""How does the relay do, in one screen? Two looks at its numbers, and a consumer's own eyes in between."""

from __future__ import annotations

import argparse
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import orjson

from common.command.parsers import Commands, command, fraction, json_option
from common.command.probe import own_url, probe
from common.command.session import read_settings
from common.command.snapped import Snapshot, snapshot_text, snapshot_value
from common.command.status import gather
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS

_HEALTH_S: Final = 5.0
_TEXT: Final = """\
Shows how the relay does: looks at its numbers, reads the stream as a consumer for 15 s, and looks again.
To be kept from before and after every change: two of them can be held against each other.

  standpipe snapshot
  standpipe snapshot --json > before.json

--json prints one object with the keys ok, health (code, and what /_health says), seconds, events (that
became durable), fps, delivery_ratio (of the events in its span of seqs, how many our consumer got; null:
there were none), delivered (events to all consumers), consumers, behind (events from the log's end to the
slowest broadcaster), read, reject_ratio (of what was read of hosts, how much was dropped), drops (by
reason), high_water (the highest depth of each queue since its process began), rss_bytes, pss_bytes,
up_s, restarted, unaccounted, processes (state, up_s, rss_bytes of each), faults (sentences)

exit code: 0 healthy, all up, delivering, nothing unaccounted for · 1 something is not · 2 wrong settings
           or words
"""


def register(commands: Commands) -> None:
    """Add `standpipe snapshot`."""
    parser = command(commands, "snapshot", "show in one screen how it does", _TEXT, _snapshot)
    parser.add_argument(
        "--seconds", type=fraction(0.1, 86_400), default=15.0, metavar="S", help="so long; 15"
    )
    json_option(parser)


def _snapshot(chosen: argparse.Namespace) -> int:
    settings = read_settings()
    if settings is None:
        return EXIT_SETTINGS
    paths = Paths.of(settings)
    url = own_url(settings)
    began_s = time.monotonic()
    before = gather(paths, settings.port)
    probed = probe(url, chosen.seconds)
    after = gather(paths, settings.port)
    seconds = time.monotonic() - began_s
    pss = _pss(after.owner) if after.owner is not None else None
    snap = Snapshot(_health(url), before, after, probed, seconds, pss)
    if chosen.json:
        print(orjson.dumps(snapshot_value(snap)).decode())
    else:
        print(snapshot_text(snap))
    return 0 if snap.ok else EXIT_FAULT


def _health(stream_url: str) -> tuple[int, dict[str, Any]]:
    """What the public port says of itself; status 0 where nobody answers."""
    address = stream_url.removeprefix("ws://").partition("/")[0]
    try:
        with urllib.request.urlopen(f"http://{address}/_health", timeout=_HEALTH_S) as answer:
            return answer.status, orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            try:
                return error.code, orjson.loads(error.read())
            except ValueError:
                return error.code, {}
    except (OSError, ValueError, http.client.HTTPException):
        return 0, {}


def _pss(root: int) -> int | None:
    """Memory of a process and all below it, each shared page counted once, in bytes; None where another
    user's may not be seen.
    """
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # It ended just now.
            below.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = 0, [root]
    while todo:
        pid = todo.pop()
        todo += below.get(pid, [])
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except PermissionError:
            return None
        except OSError:
            continue
        found += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return found * 1024
