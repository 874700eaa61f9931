"""How does an operator stop a relay that runs elsewhere: in another terminal, in the background?

SIGTERM to its supervisord, as a service manager would send it; then its end is waited for, so that what
is typed next finds nothing running.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import xmlrpc.client
from typing import Final

from common import locks
from common.command.parsers import Commands, command
from common.command.session import read_settings, say
from common.command.status import ask_supervisor
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS

STOP_S: Final = 180.0
"""How long the drain of all processes may take, in seconds; supervisord kills what takes longer."""


_TEXT: Final = """\
Stops the relay in STANDPIPE_DATA_DIR: it drains, and this command waits until nothing of it runs.

exit code: 0 it has ended · 1 none runs there, or it does not end · 2 wrong settings
"""


def register(commands: Commands) -> None:
    """Add `standpipe stop`."""
    command(commands, "stop", "drain it, and wait for its end", _TEXT, _stop)


def _stop(_chosen: argparse.Namespace) -> int:
    settings = read_settings()
    if settings is None:
        return EXIT_SETTINGS
    paths = Paths.of(settings)
    supervisor = _supervisor(paths)
    if not supervisor:
        say(f"no relay runs on {paths.data_dir}")
        return EXIT_FAULT
    try:
        handle = os.pidfd_open(supervisor)
    except ProcessLookupError:
        return 0
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        ended, _, _ = select.select([handle], [], [], STOP_S)
    except ProcessLookupError:
        return 0
    except PermissionError:
        say(f"the relay under process {supervisor} is another user's")
        return EXIT_FAULT
    finally:
        os.close(handle)
    if not ended:
        say(f"the relay under process {supervisor} has not ended after {STOP_S:g} s")
        return EXIT_FAULT
    return 0


def _supervisor(paths: Paths) -> int | None:
    """The process id of the relay's supervisord; None when there is none."""
    try:
        pid, _ = ask_supervisor(paths.supervisor_socket)
    except (OSError, xmlrpc.client.Error):
        # One that was started by hand answers elsewhere; persist's lock names it.
        return locks.owner_of(paths.lock_file)
    return pid
