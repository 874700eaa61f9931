"""How does a process of the relay begin, and how does it end?

    settings ─▶ folders ─▶ log ─▶ self-test ─▶ lock's owner ─▶ telemetry ─▶ main ─▶ drained ─▶ exit code

    0  drained after SIGTERM or SIGINT        1  a fault of ours, told in one log line
    2  wrong settings, all told on stderr

It ends when its supervisor dies: PR_SET_PDEATHSIG sends SIGTERM, so that `kill -9` of supervisord
leaves nothing behind. A drain that takes too long ends by itself, as no supervisor may be left.

The doors (`python -m ingest`, …) are three lines around `run` or `run_sync`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from common import locks, password, selftest
from common.paths import Paths
from common.settings import (
    MAX_INGEST_PROCESSES,
    Settings,
    SettingsError,
    load_settings,
    unknown_names,
)
from common.telemetry import LoopLag, Telemetry, setup_logging

EXIT_FAULT: Final = 1
EXIT_SETTINGS: Final = 2
DRAIN_DEADLINE_S: Final = 25.0
"""A process that has not drained by then ends at once, in seconds; below supervisord's 30."""
MIN_LIFE_S: Final = 1.3
"""No process of ours ends by itself sooner, in seconds.

supervisord counts an end within startsecs (1 s) as a failed start and waits a second longer after
each of them, without bound: after an hour of a full disk it would come back a minute and a half late.
"""
SAY_AGAIN_S: Final = 10.0
"""How often a process repeats what it is waiting for, in seconds."""
COLLECTOR_THRESHOLDS: Final = (50_000, 20, 100)
"""Nothing per event makes cycles, so the collector only has to come by now and then."""
_BEGAN_S: Final = time.monotonic()
_LOOK_AGAIN_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1
"""Source: prctl(2)."""


class Fault(Exception):
    """A fault of ours or of the machine that ends the process; the message is for the operator."""


@dataclass(slots=True)
class Identity:
    """Which process this is.

    name: "persist", "ingest-0", …. stage: its first part. member: its second, 0 for persist.
    """

    stage: str
    member: int
    name: str


@dataclass(slots=True)
class _Base:
    identity: Identity
    settings: Settings
    paths: Paths
    telemetry: Telemetry
    log: logging.Logger

    @property
    def name(self) -> str:
        """Name of the process, such as "ingest-0"."""
        return self.identity.name

    @property
    def member(self) -> int:
        """Number of the process within its stage."""
        return self.identity.member

    def ready(self) -> None:
        """Call once when everything long-lived exists: the collector then leaves it alone."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTOR_THRESHOLDS)
        self.telemetry.tell(ready_s=time.time())
        self.log.info("ready")


@dataclass(slots=True)
class Context(_Base):
    """What an asyncio process is handed. stopping: set when it shall drain and return."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class SyncContext(_Base):
    """What a process without a loop is handed.

    stopping: set when it shall drain and return. wakeup: becomes readable then, for a poller.
    """

    stopping: threading.Event
    wakeup: socket.socket


def run(stage: str, main: Callable[[Context], Coroutine[Any, Any, None]]) -> int:
    """Run one asyncio process of a stage to its end; returns the exit code.

    `--member n` is read from the command line. `main` returns once it has drained after
    `context.stopping`; returning before is a fault.
    """

    def body(base: _Base, stopped: threading.Event) -> None:
        factory = uvloop.new_event_loop if base.settings.event_loop == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_watched(base, main, stopped))

    return _run(stage, body)


def run_sync(stage: str, main: Callable[[SyncContext], None]) -> int:
    """Run one process without a loop to its end; returns the exit code. As `run` otherwise."""

    def body(base: _Base, stopped: threading.Event) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)

            def stop(number: int, _frame: object) -> None:
                _begin_drain(base.log, number)
                stopped.set()
                with contextlib.suppress(BlockingIOError):
                    theirs.send(b"!")

            signal.signal(signal.SIGTERM, stop)
            signal.signal(signal.SIGINT, stop)
            main(
                SyncContext(
                    base.identity, base.settings, base.paths, base.telemetry, base.log,
                    stopped, ours,
                )
            )  # fmt: skip

    return _run(stage, body)


def die_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when its parent dies.

    Raises:
        Fault: the parent is gone already.
    """
    parent = os.getppid()
    if _is_orphan(parent):
        raise Fault("the supervisor ended before this process began")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0) != 0:
        raise Fault(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    # It may have died between the two calls, and then no signal comes.
    if os.getppid() != parent or parent == 0:
        raise Fault("the supervisor ended while this process began")


def _is_orphan(parent: int) -> bool:
    """Whether supervisord started this process, and is its parent no longer.

    It may have died while Python was being loaded, half a second in which nothing of ours runs yet.
    Whoever adopted the process then is no supervisord; and no signal would ever come.
    """
    if "SUPERVISOR_ENABLED" not in os.environ:
        return False
    try:
        return b"supervisord" not in Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return False  # hidden from us, or gone in this moment: the caller looks again


def live_long_enough(stopped: threading.Event | None = None) -> None:
    """Before ending by itself: wait until this process is MIN_LIFE_S old, or told to stop."""
    rest_s = MIN_LIFE_S - (time.monotonic() - _BEGAN_S)
    if rest_s > 0:
        (stopped or threading.Event()).wait(rest_s)


def raise_file_limit() -> int:
    """Raise the number of files this process may open to what the system allows; returns it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def _watched(
    base: _Base, main: Callable[[Context], Awaitable[None]], stopped: threading.Event
) -> None:
    loop = asyncio.get_running_loop()
    context = Context(base.identity, base.settings, base.paths, base.telemetry, base.log)

    def stop(number: int) -> None:
        _begin_drain(base.log, number)
        stopped.set()
        context.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    if stopped.is_set():
        return
    lag = asyncio.create_task(LoopLag().watch(), name="loop lag")
    try:
        await main(context)
    finally:
        lag.cancel()


def _begin_drain(log: logging.Logger, number: int) -> None:
    log.info("draining", extra={"fields": {"signal": signal.Signals(number).name}})
    timer = threading.Timer(DRAIN_DEADLINE_S, _give_up, [log])
    timer.daemon = True
    timer.start()


def _give_up(log: logging.Logger) -> None:
    log.error(
        "the drain took too long, ending now", extra={"fields": {"limit_s": DRAIN_DEADLINE_S}}
    )
    sys.stdout.flush()
    os._exit(EXIT_FAULT)


def _run(stage: str, body: Callable[[_Base, threading.Event], None]) -> int:
    faulthandler.enable()
    parser = argparse.ArgumentParser(prog=f"python -m {stage}")
    parser.add_argument("--member", type=int, default=0, help="number within the stage, from 0")
    parser.add_argument("--members", type=int, default=None, help="how many the supervisor starts")
    arguments = parser.parse_args()
    try:
        settings = load_settings(os.environ)
        _check_members(stage, arguments.member, arguments.members, settings)
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"{stage}: {problem}\n")
        return EXIT_SETTINGS
    name = stage if stage == "persist" else f"{stage}-{arguments.member}"
    log = setup_logging(name, settings.log_level)
    stopped = threading.Event()
    telemetry: Telemetry | None = None
    held: list[locks.Lock] = []
    try:
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        signal.signal(signal.SIGINT, lambda *_: stopped.set())
        die_with_parent()
        raise_file_limit()
        for unknown in unknown_names(os.environ):
            log.warning("unknown setting", extra={"fields": {"name": unknown}})
        paths = Paths.of(settings)
        paths.prepare()
        password.ensure(settings, paths)
        selftest.require(paths)
        held = _locked(stage, settings, paths, log, stopped)
        if stopped.is_set():
            return 0
        telemetry = Telemetry(
            name,
            paths.run_file(name),
            settings.metrics_host,
            settings.metrics_port_of(stage, arguments.member),
        )
        telemetry.start()
        identity = Identity(stage, arguments.member, name)
        body(_Base(identity, settings, paths, telemetry, log), stopped)
        if not stopped.is_set():
            raise Fault("the work ended without having been asked to")
    except (Fault, locks.Held, selftest.Failed, OSError) as error:
        log.error(str(error), exc_info=error if isinstance(error, OSError) else None)
        code = EXIT_FAULT
    except Exception:
        log.exception("uncaught exception")
        code = EXIT_FAULT
    else:
        log.info("stopped")
        code = 0
    finally:
        if telemetry is not None:
            telemetry.close()
        for lock in held:
            lock.release()
    if code:
        live_long_enough(stopped)
    return code


def _check_members(stage: str, member: int, members: int | None, settings: Settings) -> None:
    if settings.batches_connect and stage != "ingest":
        problem = (
            f"STANDPIPE_BATCHES_CONNECT={settings.batches_connect}: persist is on another machine, this "
            f"one has ingest processes alone; use `standpipe run`"
        )
        raise SettingsError([problem])
    if stage == "ingest":
        # Who reads what they agree upon among those that live, however many the settings say.
        if not 0 <= member < MAX_INGEST_PROCESSES:
            raise SettingsError([f"--member {member} is not below {MAX_INGEST_PROCESSES}"])
        return
    count = settings.broadcast_processes if stage == "broadcast" else 1
    name = f"STANDPIPE_{stage.upper()}_PROCESSES"
    if members is not None and members != count:
        problem = (
            f"{name}={count}, but the process table starts {members}: use `standpipe run`, "
            f"or change numprocs in supervisord.conf"
        )
        raise SettingsError([problem])
    if not 0 <= member < count:
        raise SettingsError([f"--member {member} is none of the {count} of {name}"])


def _locked(
    stage: str, settings: Settings, paths: Paths, log: logging.Logger, stopped: threading.Event
) -> list[locks.Lock]:
    """Take the relay's locks (persist), or wait until they are held for our own supervisor.

    Raises:
        locks.Held: for another supervisor.
    """
    wanted = [(paths.lock_file, f"the data folder {paths.data_dir}")]
    if stage != "ingest":
        wanted.append((locks.port_lock_file(settings.port), f"port {settings.port}"))
    supervisor = os.getppid()
    held: list[locks.Lock] = []
    said_s = 0.0
    for path, what in wanted:
        while not stopped.is_set():
            if stage == "persist":
                try:
                    held.append(locks.acquire(path, what, supervisor))
                    break
                except locks.Held as error:
                    # Our own predecessor may take a moment to end; nobody else is waited for.
                    if error.owner != supervisor:
                        for lock in held:
                            lock.release()
                        raise
            else:
                owner = locks.owner_of(path)
                if owner == supervisor:
                    break
                if owner:
                    raise locks.Held(what, path, owner)
            if time.monotonic() - said_s >= SAY_AGAIN_S:
                said_s = time.monotonic()
                log.info("waiting for persist", extra={"fields": {"lock": str(path)}})
            stopped.wait(_LOOK_AGAIN_S)
    return held
