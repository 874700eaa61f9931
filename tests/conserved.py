"""Is every event of a whole relay accounted for, at every moment, whatever is killed meanwhile?

    async with conserved(relay) as watch:
        await watch.hears({"persist"})       # so that what follows is looked at from its beginning
        ...                                  # load, kills, SIGSTOP, restarts
    watch.answers["persist"], watch.lives["persist"]   # how often it was seen, and which processes

or, without a loop, `with Conserved(relay) as watch:`. A thread scrapes every process that has a run file,
round after round, and holds each answer to what docs/conservation.md promises:

- every term of the balance that is exported adds up, and the process says so itself (`unaccounted`);
- no counter falls within the life of a process;
- what ingest calls on disk by the running persist is what persist calls written, or less.

Whoever cannot be reached (killed, stopped, just starting) is left out of that round. The end of the
context raises AssertionError and lists what was wrong; it names each process by its life.

`balance_errors(numbers)` checks one answer; `scrape(port)` gets one.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeAlias
from urllib.parse import urlencode

from prometheus_client.parser import text_string_to_metric_families

from common.conservation import NAMES

if TYPE_CHECKING:
    from tests.relay import Relay

Numbers: TypeAlias = dict[str, dict[str, float]]
"""Metric → value of its label ("" without) → number."""

PAUSE_S: Final = 0.05
"""Between two rounds over all processes, in seconds: a scrape takes time from the one that answers."""
TIMEOUT_S: Final = 2.0
HEAR_S: Final = 120.0
_QUERY: Final = urlencode([("name[]", name) for name in NAMES])


def parse(text: str) -> Numbers:
    """A scrape as Prometheus reads it."""
    numbers: Numbers = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = next(iter(sample.labels.values()), "")
            numbers.setdefault(sample.name, {})[label] = sample.value
    return numbers


def scrape(port: int, host: str = "127.0.0.1") -> Numbers:
    """The balance that a process shows now.

    Raises:
        OSError, http.client.HTTPException: it does not answer.
    """
    with urllib.request.urlopen(
        f"http://{host}:{port}/metrics?{_QUERY}", timeout=TIMEOUT_S
    ) as answer:
        return parse(answer.read().decode())


def remainder(numbers: Numbers) -> float:
    """What remains of the exported terms, added up here; 0 when every event has one end."""

    def total(*names: str) -> float:
        return sum(sum(numbers.get(f"standpipe_{name}", {}).values()) for name in names)

    came = total("received_total", "originated_total")
    ended = total("forwarded_total", "dropped_total", "heeded_total", "released_total")
    left = abs(came - ended - total("held", "in_flight"))
    if "standpipe_read_total" in numbers:
        read = total("read_total") - total("inbox", "unread_total")
        left += abs(read - total("received_total"))
    return left


def balance_errors(numbers: Numbers) -> list[str]:
    """What is wrong with one process's balance; nothing, or a bug."""
    found = []
    if remainder(numbers) or numbers["standpipe_unaccounted"][""]:
        found.append(f"{remainder(numbers):.0f} events are unaccounted for: {numbers}")
    found += [
        f"{name}{{{label}}} is {value:.0f}"
        for name, values in numbers.items()
        for label, value in values.items()
        if value < 0
    ]
    return found


class Conserved:
    """Scrapes a relay's processes in a thread. See the module.

    answers: how many each process gave. lives: their process ids. errors: what was wrong.
    """

    def __init__(self, relay: Relay) -> None:
        self.answers: Counter[str] = Counter()
        self.lives: dict[str, set[int]] = {}
        self.errors: list[str] = []
        self._relay = relay
        self._last: dict[tuple[str, int], Numbers] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="conserved")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        if error is None:
            assert not self.errors, "\n".join(self.errors[:20])

    async def hears(self, names: set[str], lives: int = 1) -> None:
        """Wait until each of these has answered, in so many lives.

        Raises:
            TimeoutError: one does not.
        """
        async with asyncio.timeout(HEAR_S):
            while any(len(self.lives.get(name, ())) < lives for name in names):
                await asyncio.sleep(PAUSE_S)

    def _watch(self) -> None:
        while not self._done.wait(PAUSE_S):
            self._round()

    def _round(self) -> None:
        folder = self._relay.data / "run"
        names = sorted(path.stem for path in folder.glob("*.json"))
        # persist last: what it says is on disk was so before anybody else could know.
        names.sort(key=lambda name: name == "persist")
        heard = {name: numbers for name in names if (numbers := self._ask(name)) is not None}
        persist = heard.get("persist", {})
        if (epoch := persist.get("standpipe_log_epoch")) is None:
            return
        known = sum(
            numbers["standpipe_log_epoch_events"][""]
            for name, numbers in heard.items()
            if name != "persist" and numbers.get("standpipe_log_epoch") == epoch
        )
        written = persist["standpipe_log_epoch_events"][""]
        if known > written:
            self.errors.append(f"ingest calls {known:.0f} on disk, persist wrote {written:.0f}")

    def _ask(self, name: str) -> Numbers | None:
        file = self._relay.run_file(name)
        if file is None:
            return None
        try:
            numbers = scrape(file["metrics_port"])
        except (OSError, http.client.HTTPException):
            return None
        # A port may have gone to somebody else, unless its owner still lives; and who has only just
        # begun shows no balance yet.
        if self._relay.run_file(name) != file or "standpipe_unaccounted" not in numbers:
            return None
        life = (name, int(file["pid"]))
        self.answers[name] += 1
        self.lives.setdefault(name, set()).add(life[1])
        wrong = balance_errors(numbers) + list(fallen(self._last.get(life, {}), numbers))
        self.errors += [f"{name} {life[1]}: {each}" for each in wrong]
        self._last[life] = numbers
        return numbers


def fallen(before: Numbers, after: Numbers) -> Iterator[str]:
    """The counters that are lower than they were."""
    for name, values in before.items():
        if name.endswith("_total"):
            for label, value in values.items():
                now = after.get(name, {}).get(label, 0.0)
                if now < value:
                    yield f"{name}{{{label}}} fell from {value:.0f} to {now:.0f}"


@asynccontextmanager
async def conserved(relay: Relay) -> AsyncIterator[Conserved]:
    """`Conserved`, while the loop goes on."""
    watch = Conserved(relay)
    watch.__enter__()
    try:
        yield watch
    except BaseException as error:
        await asyncio.to_thread(watch.__exit__, type(error), error, None)
        raise
    await asyncio.to_thread(watch.__exit__, None, None, None)
