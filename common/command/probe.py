"""Does a consumer get what it should, through the port that consumers use? The truth within 15 s.

A relay that is green by its own numbers may still deliver nothing: this connects as a user does, through
whatever stands in between, and looks. Source: lesson 4.
"""

from __future__ import annotations

import argparse
import time
from typing import Final
from urllib.parse import urlsplit

import orjson
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from common.command.parsers import Commands, command, fraction, json_option
from common.command.probed import Probed, probed_text, probed_value
from common.command.session import read_settings
from common.command.status import public_port
from common.command.words import visible
from common.frame import MAX_FRAME_BYTES
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS
from common.settings import Settings
from common.target import STREAM_PATH

OPEN_S: Final = 10.0
"""How long DNS, TCP, TLS and the handshake may take together, in seconds."""
CLOSE_S: Final = 1.0
USER_AGENT: Final = "standpipe-probe"
_LOCAL: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_SCHEMES: Final = {"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}
_TEXT: Final = """\
Reads the stream as a consumer does, through the public port, and says whether it is what it should be: it
connects, events come, their seqs rise, nothing is broken, nobody hangs up. To be run after every start
and every change, through the same proxy that users come through.

  standpipe probe                                       15 s at this relay, one event a second at least
  standpipe probe --url wss://relay.example.com --seconds 30 --min-fps 200
  standpipe probe --json | jq .fps
  standpipe probe --min-fps 0                           in a network where nothing may happen for a while

--json prints one object with the keys ok, url, connected, connect_s, first_event_s, seconds, events, fps,
min_fps, bytes, kinds (events by kind), first_seq, last_seq, missed (numbers in between that did not come:
a few where the log has a gap), infos (#info messages), faults (sentences)

exit code: 0 it is · 1 it is not: a fault, or fewer events than --min-fps · 2 wrong settings or words
"""


def register(commands: Commands) -> None:
    """Add `standpipe probe`."""
    parser = command(commands, "probe", "see whether a consumer gets what it should", _TEXT, _probe)
    parser.add_argument(
        "--seconds", type=fraction(0.1, 86_400), default=15.0, metavar="S", help="so long; 15"
    )
    parser.add_argument(
        "--min-fps", type=fraction(0, 1e6), default=1.0, metavar="N",
        help="events a second that have to come at least; 1",
    )  # fmt: skip
    parser.add_argument(
        "--url", type=stream_url, metavar="URL", help="another relay's; none: this one's"
    )
    json_option(parser)


def _probe(chosen: argparse.Namespace) -> int:
    url = chosen.url
    if url is None:
        settings = read_settings()
        if settings is None:
            return EXIT_SETTINGS
        url = own_url(settings)
    found = probe(url, chosen.seconds)
    if chosen.json:
        print(orjson.dumps(probed_value(found, chosen.min_fps)).decode())
    else:
        print("\n".join(map(visible, probed_text(found, chosen.min_fps).split("\n"))))
    return 0 if found.ok(chosen.min_fps) else EXIT_FAULT


def own_url(settings: Settings) -> str:
    """Where this relay's consumers connect, asked from this machine."""
    host = _LOCAL.get(settings.bind, settings.bind)
    host = f"[{host}]" if ":" in host else host
    return f"ws://{host}:{public_port(Paths.of(settings), settings.port)}{STREAM_PATH}"


def stream_url(word: str) -> str:
    """Reads a relay: a name, or a URL with or without the stream's path."""
    try:
        parts = urlsplit(word if "://" in word else f"wss://{word}")
        _ = parts.port
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word!r} is no URL: {error}") from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{word!r} is no URL; write wss://relay.example.com")
    path = STREAM_PATH if parts.path in ("", "/") else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{path}{query}"


def probe(url: str, seconds: float) -> Probed:
    """Read a stream for so long, in seconds, and see."""
    found = Probed(url)
    began_s = time.monotonic()
    try:
        connection = connect(
            url, open_timeout=OPEN_S, close_timeout=CLOSE_S, user_agent_header=USER_AGENT,
            max_size=MAX_FRAME_BYTES,
        )  # fmt: skip
    except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed, ValueError) as error:
        found.fault(f"no connection: {str(error) or type(error).__name__}")
        return found
    found.connected = True
    found.connect_s = time.monotonic() - began_s
    with connection:
        _read(connection, found, seconds)
    return found


def _read(connection: ClientConnection, found: Probed, seconds: float) -> None:
    began_s = time.monotonic()
    try:
        while (left_s := began_s + seconds - time.monotonic()) > 0:
            message = connection.recv(timeout=left_s)
            found.take(message, time.monotonic() - began_s)
    except TimeoutError:
        pass
    except ConnectionClosed as error:
        found.fault(f"the connection ended: {error}")
    except OSError as error:
        found.fault(f"the connection broke: {error}")
    found.seconds = time.monotonic() - began_s
