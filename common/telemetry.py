"""What does this process say of itself: log lines, numbers, and where to find them?

    JSON lines on stdout · a Prometheus port · run/<process>.json, which names that port

`counter`, `gauge`, `histogram` and `high_water` make the numbers, once per name, so that modules
of two stages can be imported side by side. Labels come from closed lists, never from a host.

This module does not know what is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LOOP_LAG_ALERT_S: Final = 0.25
"""A loop that was away for longer is told in the log, in seconds. Source: issue and lesson 22."""
_LOOP_LAG_PERIOD_S: Final = 0.05
_LOOP_LAG_WINDOW_S: Final = 15.0
"""The gauge shows the worst of the last one to two windows, in seconds: two scrapes see a peak."""
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING,
                  "error": logging.ERROR}  # fmt: skip

_M = TypeVar("_M", bound=Collector)
_made: dict[str, Any] = {}


# --- numbers ---


def counter(name: str, sentence: str, labels: Sequence[str] = ()) -> Counter:
    """The counter of that name; made at the first call."""
    return _once(Counter, name, sentence, labels)


def gauge(name: str, sentence: str, labels: Sequence[str] = ()) -> Gauge:
    """The gauge of that name; made at the first call."""
    return _once(Gauge, name, sentence, labels)


def histogram(
    name: str, sentence: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
) -> Histogram:
    """The histogram of that name; made at the first call. Bounds in the unit that the name says."""
    return _once(Histogram, name, sentence, labels, buckets=buckets)


def _once(make: type[_M], name: str, sentence: str, labels: Sequence[str], **more: object) -> _M:
    if name not in _made:
        _made[name] = make(name, sentence, labels, **more)  # type: ignore[call-arg]
    found = _made[name]
    if not isinstance(found, make):
        raise TypeError(f"{name} is a {type(found).__name__} already")
    return found


class HighWater:
    """The highest depth of one queue since the last scrape; `note` is one comparison."""

    __slots__ = ("depth", "peak", "scraped")

    def __init__(self) -> None:
        self.depth = 0
        self.peak = 0
        self.scraped = 0

    def note(self, depth: int) -> None:
        """The queue holds `depth` now, in the unit that its name says."""
        self.depth = depth
        self.peak = max(self.peak, depth)

    def take(self) -> int:
        """The highest depth since the last call."""
        self.scraped = self.ever
        peak, self.peak = self.peak, self.depth
        return peak

    @property
    def ever(self) -> int:
        """The highest depth since the process began; takes nothing."""
        return max(self.scraped, self.peak)


class _HighWaters(Collector):
    """Hands the peaks to a scrape and begins anew.

    `standpipe status` asks for its numbers by name and leaves this one out, so it takes no peak
    from Prometheus.
    """

    def __init__(self) -> None:
        self.queues: dict[str, HighWater] = {}

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for name, queue in list(self.queues.items()):
            family.add_metric([name], queue.take())
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "standpipe_queue_high_water", "Highest depth since the last scrape.", labels=["queue"]
        )


class _Peaks(Collector):
    """The same since the process began: whoever asks takes nothing from anybody."""

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for name, queue in list(_high_waters.queues.items()):
            family.add_metric([name], queue.ever)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "standpipe_queue_peak", "Highest depth since the process began.", labels=["queue"]
        )


_high_waters = _HighWaters()


def high_water(queue: str) -> HighWater:
    """The high-water mark of the queue of that name; made at the first call."""
    if not _high_waters.queues:
        prometheus_client.REGISTRY.register(_high_waters)
        prometheus_client.REGISTRY.register(_Peaks())
    return _high_waters.queues.setdefault(queue, HighWater())


# --- log lines ---


class JsonLines(logging.Formatter):
    """One JSON object a line: ts, level, process, msg, and the fields of `extra={"fields": …}`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line of JSON."""
        line: dict[str, Any] = {
            "ts": round(record.created, 6),
            "level": "warn" if record.levelno == logging.WARNING else record.levelname.lower(),
            "process": self._process,
            "msg": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = repr(record.exc_info[1])
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except (TypeError, ValueError):
            # Integers beyond 64 bits, lone surrogates: rare, and a line must never be lost.
            return json.dumps(line, default=str)


def setup_logging(process: str, level: str) -> logging.Logger:
    """Send all log lines of this process to stdout as JSON; uncaught exceptions too.

    Usage: `log.info("connected", extra={"fields": {"host": hostname}})`.

    Args:
        process: its name, such as "ingest-0". level: debug, info, warn or error.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    logging.captureWarnings(capture=True)
    log = logging.getLogger("standpipe")

    def uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        log.critical("uncaught exception", exc_info=(kind, error, trace))

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            trace = (args.exc_type, args.exc_value, args.exc_traceback)
            log.critical("uncaught exception in a thread", exc_info=trace)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    return log


# --- the process's own numbers ---


class LoopLag:
    """How long the loop was away from a timer: the worst of the last one to two windows.

    What is told of a hold-up says how much of it the machine took (`starved_s`): the rest is ours.
    """

    def __init__(self) -> None:
        self._gauge = gauge(
            "standpipe_loop_lag_seconds", "Worst delay of the event loop in the last 15 to 30 s."
        )
        self._current_s = 0.0
        self._last_s = 0.0
        self._window_ends_s = 0.0
        self._log = logging.getLogger("standpipe")

    def note(self, lag_s: float, now_s: float, starved_s: float = 0.0) -> None:
        """A timer fired `lag_s` late; for `starved_s` of that the machine ran somebody else."""
        if now_s >= self._window_ends_s:
            self._last_s, self._current_s = self._current_s, 0.0
            self._window_ends_s = now_s + _LOOP_LAG_WINDOW_S
        self._current_s = max(self._current_s, lag_s)
        self._gauge.set(max(self._current_s, self._last_s))
        if lag_s >= LOOP_LAG_ALERT_S:
            fields = {"lag_s": round(lag_s, 3), "starved_s": round(min(starved_s, lag_s), 3)}
            self._log.warning("the event loop was held up", extra={"fields": fields})

    async def watch(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            before_s, without_s = loop.time(), without_cpu_s()
            await asyncio.sleep(_LOOP_LAG_PERIOD_S)
            now_s = loop.time()
            lag_s = max(0.0, now_s - before_s - _LOOP_LAG_PERIOD_S)
            self.note(lag_s, now_s, without_cpu_s() - without_s)


def without_cpu_s() -> float:
    """How long this thread was ready to run and was not let, by the system or the machine's host.

    Returns: seconds since some start: a queue's time (schedstat's second field) and stolen time
        (/proc/stat's eighth number of `cpu`, in ticks); 0.0 where the system keeps neither.
    """
    try:
        waited_ns = Path("/proc/thread-self/schedstat").read_text().split()[1]
        stolen_ticks = Path("/proc/stat").read_text().split(maxsplit=9)[8]
        return int(waited_ns) / 1e9 + int(stolen_ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


class _GcPauses:
    """Times the garbage collector through gc.callbacks."""

    def __init__(self) -> None:
        self._seconds = histogram(
            "standpipe_gc_pause_seconds",
            "Pauses of the garbage collector.",
            buckets=(0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 1.0),
        )
        self._began_s = 0.0

    def __call__(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began_s = time.perf_counter()
        else:
            self._seconds.observe(time.perf_counter() - self._began_s)


class Telemetry:
    """The Prometheus port and the run file of one process; both end with `close`."""

    def __init__(self, process: str, run_file: Path, host: str, port: int) -> None:
        """Nothing is opened before `start`. port: 0 takes any free one."""
        self._process = process
        self._run_file = run_file
        self._address = (host, port)
        self._facts: dict[str, Any] = {}
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._pauses = _GcPauses()

    def start(self) -> None:
        """Open the port and write the run file.

        Raises:
            OSError: the port is taken, or the file cannot be written.
        """
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        host, port = self._address
        try:
            self._server, self._thread = prometheus_client.start_http_server(port, host)
        except OSError as error:
            raise OSError(
                error.errno, f"the Prometheus port {host}:{port}: {error.strerror}"
            ) from error
        gc.callbacks.append(self._pauses)
        self.tell(
            process=self._process,
            pid=os.getpid(),
            supervisor=os.getppid(),
            started_s=time.time(),
            metrics_host=host,
            metrics_port=self._server.server_port,
        )

    @property
    def metrics_port(self) -> int:
        """The port that was opened."""
        return int(self._facts["metrics_port"])

    def tell(self, **facts: object) -> None:
        """Add facts to the run file, such as private_port=…; readers see all of it or the last."""
        self._facts.update(facts)
        partial = self._run_file.with_suffix(f".{os.getpid()}")
        partial.write_bytes(orjson.dumps(self._facts))
        partial.replace(self._run_file)

    def close(self) -> None:
        """Close the port and remove the run file, unless a successor has written its own."""
        if self._server is None:
            return
        gc.callbacks.remove(self._pauses)
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError, ValueError, KeyError):
            if orjson.loads(self._run_file.read_bytes())["pid"] == os.getpid():
                self._run_file.unlink()
