"""How may a host or the directory misbehave? Every switch in one place, all off at first.

Values only: `host.py` and `plc.py` read them at the moment they act.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DirectoryFault(StrEnum):
    """What the directory answers instead of a document; DOWN refuses connections."""

    NONE = "none"
    DOWN = "down"
    NOT_FOUND = "not_found"
    SERVER_ERROR = "server_error"
    SLOW = "slow"
    HUGE = "huge"
    MALFORMED = "malformed"


@dataclass(slots=True)
class HostFaults:
    """How one host misbehaves from now on.

    disconnect_after: cut each connection after so many frames (no close frame); None: never.
    disconnect_once: only the next connection to reach that number.
    bytes_per_s: how fast each connection is written; None: as fast as it is read.
    silent_handshake: accept the connection, never answer the request.
    silent_stream: send nothing more, keep the connection open.
    close_on_accept: cut each connection as soon as it has asked.
    reset_every_s: cut each connection after so many seconds; None: never.
    """

    disconnect_after: int | None = None
    disconnect_once: bool = False
    bytes_per_s: float | None = None
    silent_handshake: bool = False
    silent_stream: bool = False
    close_on_accept: bool = False
    reset_every_s: float | None = None
