"""Who reads the stream, and how is one of them let go? Asked of a broadcaster's private port."""

from __future__ import annotations

import argparse
import base64
import http.client
import urllib.error
import urllib.request
from typing import Any, Final

import orjson

from common import password
from common.command.changes import KEYS
from common.command.parsers import Commands, command, group, json_option, whole
from common.command.session import Refused, read_settings, say
from common.command.status import private_ports
from common.command.words import table, visible
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS
from common.settings import Settings

TIMEOUT_S: Final = 10.0
_TEXT: Final = """\
Who reads the stream of this relay, at all its broadcasters. The relay has to run.

  standpipe consumers list
  standpipe consumers disconnect 3
"""
_LIST: Final = """\
Lists the open streams: id, process, address, since when, events and bytes that were handed over, how far
behind the newest event each is, and what it calls itself.

--json prints an array of objects with the keys id, remote_addr, user_agent, events_consumed, connected_at,
process, state, seq, lag_events, bytes; a broadcaster that does not answer is an object with `error`

exit code: 0 · 1 no relay runs here, or not all of it answers · 2 wrong settings
"""
_DISCONNECT: Final = f"""\
Lets a consumer go, with a close frame; it may come back.

  standpipe consumers disconnect 3

{KEYS}"""
ACTION: Final = "disconnect_consumer"


def register(commands: Commands) -> None:
    """Add `standpipe consumers`."""
    inner = group(commands, "consumers", "who reads the stream", _TEXT)
    json_option(command(inner, "list", "list them", _LIST, _list), "array")
    disconnect = command(inner, "disconnect", "let one go", _DISCONNECT, _disconnect)
    disconnect.add_argument("id", metavar="ID", type=whole(0, 2**63 - 1), help="as `list` says")
    json_option(disconnect)


def _list(chosen: argparse.Namespace) -> int:
    found = _asked("GET", "/admin/consumers/list")
    if isinstance(found, int):
        return found
    silent = [row for row in found if "error" in row]
    if chosen.json:
        print(orjson.dumps(found).decode())
    else:
        print(consumers_text([row for row in found if "error" not in row]))
        for row in silent:
            say(f"{row.get('process')} {row['error']}")
    return EXIT_FAULT if silent else 0


def _disconnect(chosen: argparse.Namespace) -> int:
    found = _asked("POST", f"/admin/consumers/disconnect?id={chosen.id}")
    if isinstance(found, int):
        return found
    changed = bool(found.get("changed", True))
    if chosen.json:
        told = {"action": ACTION, "subject": str(chosen.id), "changed": changed}
        print(orjson.dumps(told).decode())
    else:
        print(
            f"consumer {chosen.id} is let go" if changed
            else f"there is no consumer {chosen.id}; nothing was changed"
        )  # fmt: skip
    return 0


def consumers_text(rows: list[dict[str, Any]]) -> str:
    """Open streams, as the admin API tells them."""
    if not rows:
        return "nobody reads the stream"
    head = ("id", "process", "address", "since", "events", "MiB", "behind", "calls itself")
    cells = [
        (
            str(row.get("id")),
            str(row.get("process", "-")),
            str(row.get("remote_addr", "-")),
            str(row.get("connected_at", "-")),
            f"{row.get('events_consumed', 0):,}",
            f"{row.get('bytes', 0) / 2**20:,.1f}",
            f"{row.get('lag_events', 0):,}",
            str(row.get("user_agent") or "-"),
        )
        for row in rows
    ]
    return table([head, *[tuple(map(visible, row)) for row in cells]])


def _asked(method: str, path: str) -> Any:
    """What the admin API answers; or an exit code, when the reason was told."""
    settings = read_settings()
    if settings is None:
        return EXIT_SETTINGS
    try:
        return ask(settings, method, path)
    except (Refused, OSError) as error:
        say(str(error))
        return EXIT_FAULT


def ask(settings: Settings, method: str, path: str) -> Any:
    """The value that the first broadcaster that answers gives.

    Raises:
        Refused: nobody answers, or not with a success.
        OSError: the password's file cannot be read.
    """
    paths = Paths.of(settings)
    ports = private_ports(paths)
    if not ports:
        raise Refused(f"no broadcaster runs in {paths.data_dir}; is the relay running?")
    if not settings.admin_passwords and not paths.admin_password_file.exists():
        raise Refused(f"there is no admin password: {paths.admin_password_file} is missing")
    secret = password.ensure(settings, paths)[0]
    given = base64.b64encode(f"admin:{secret}".encode()).decode()
    why = ""
    for port in ports:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}",
            method=method,
            headers={"Authorization": f"Basic {given}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
                return orjson.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(_told(error)) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = str(error)
    raise Refused(f"no broadcaster answers: {why}")


def _told(error: urllib.error.HTTPError) -> str:
    if error.code == 401:
        return "the relay does not take the admin password of these settings"
    try:
        said = orjson.loads(error.read()).get("error")
    except (ValueError, AttributeError, OSError):
        said = error.reason
    return f"the relay answers {error.code}: {said}"
