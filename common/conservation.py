"""Where did every event go? One process's balance, and how Prometheus gets to see it whole.

    received + originated = forwarded + Σ dropped + heeded + released + held + in flight
    read = received + inbox + unread, where messages come from sockets

Each term is counted where it happens, or is the size of the structure that holds the events; none is
computed from the others. So an event that was forgotten, or that ended twice, shows in what remains:
`unaccounted`, 0 at every scrape.

A scrape runs in a thread of its own and could see a term before and the next one after an event has moved.
So it never looks at what is being counted: the loop makes a `Balance` between two events and
hands it over with one assignment, and the scrape serves the last one.

What the terms mean in each stage: docs/conservation.md. Source: lesson 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_K = TypeVar("_K")
_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class Reading(NamedTuple):
    """Messages between a socket and the hand that takes them: read = received + inbox + unread.

    read: ever, from all sockets. inbox: wait now to be taken in hand.
    unread: let go with their connection, ever; who sent them sends them again.
    """

    read: int
    inbox: int
    unread: int


class Logged(NamedTuple):
    """Events that one writer of the log has put on disk, as far as this process knows.

    epoch: of the writer, 0 before any was heard. events: since it began.
    """

    epoch: int
    events: int


class Balance(NamedTuple):
    """What became of everything that came to one process since it began; all numbers are events.

    By kind: received, taken in hand; originated, said by this process itself; forwarded; heeded, what
    concerns a connection only; released, let go for another process that reads it again. By reason:
    dropped. Now: held, those that wait for something; in_flight, those that are on their way out.
    """

    received: Mapping[str, int]
    forwarded: Mapping[str, int]
    dropped: Mapping[str, int]
    held: int
    in_flight: int
    originated: Mapping[str, int] = _NONE
    heeded: Mapping[str, int] = _NONE
    released: Mapping[str, int] = _NONE
    reading: Reading | None = None
    logged: Logged | None = None

    @property
    def unaccounted(self) -> int:
        """Events without an end or with two, before and after they were taken in hand; 0 or a bug."""
        received = sum(self.received.values())
        ended = sum(
            sum(each.values())
            for each in (self.forwarded, self.dropped, self.heeded, self.released)
        )
        came = received + sum(self.originated.values())
        remainder = abs(came - ended - self.held - self.in_flight)
        if self.reading is not None:
            remainder += abs(
                self.reading.read - self.reading.inbox - self.reading.unread - received
            )
        return remainder


def frozen(labels: Iterable[_K], counts: Mapping[_K, int]) -> Mapping[str, int]:
    """What has been counted of a closed list of labels, as it is now; one never met is 0.

    Args: labels: texts, or members of an enum whose values are texts.
    """
    return MappingProxyType(
        {str(getattr(label, "value", label)): counts.get(label, 0) for label in labels}
    )


def serve(balance: Balance) -> None:
    """From now on, and until the next call, every scrape of this process shows this balance."""
    if _served.balance is None:
        _served.balance = balance
        prometheus_client.REGISTRY.register(_served)
    _served.balance = balance


_BY_KIND: Final = {
    "received": "Messages taken in hand, or events that came from the stage before.",
    "originated": "Events that this process says itself.",
    "forwarded": "Events that went on: acknowledged as on disk, written, or published.",
    "heeded": "Messages that concern a connection only, and were heeded.",
    "released": "Events let go with their shard, for its next owner to read again.",
}


class _Served(Collector):
    """Hands the last balance to scrapes."""

    def __init__(self) -> None:
        self.balance: Balance | None = None

    def describe(self) -> Iterable[Metric]:
        return _families(_EVERY_TERM)

    def collect(self) -> Iterable[Metric]:
        # Read once: the loop may hand over the next one meanwhile.
        balance = self.balance
        return [] if balance is None else _families(balance)


def _families(balance: Balance) -> list[Metric]:
    found: list[Metric] = [
        _counts(name, sentence, "kind", getattr(balance, name))
        for name, sentence in _BY_KIND.items()
    ]
    found += [
        _counts("dropped", "Messages that went no further, by reason.", "reason", balance.dropped),
        _gauge("held", "Events that wait, for whatever cause.", balance.held),
        _gauge("in_flight", "Events on their way out, and not confirmed.", balance.in_flight),
        _gauge(
            "unaccounted", "Events without an end, or with two: 0, or a bug.", balance.unaccounted
        ),
    ]
    if balance.reading is not None:
        read, inbox, unread = balance.reading
        found += [
            _counter("read", "Messages read from hosts' sockets.", read),
            _gauge("inbox", "Messages read that nobody has taken in hand yet.", inbox),
            _counter("unread", "Messages let go with their connection; they come again.", unread),
        ]
    if balance.logged is not None:
        epoch, events = balance.logged
        found += [
            _gauge("log_epoch", "Epoch of the log's writer, 0 before any was heard.", epoch),
            _gauge(
                "log_epoch_events",
                "Events that this writer has put on disk, as far as this process knows.",
                events,
            ),
        ]
    return found


def _counts(name: str, sentence: str, label: str, counts: Mapping[str, int]) -> Metric:
    family: Any = CounterMetricFamily(f"standpipe_{name}", sentence, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family  # type: ignore[no-any-return]


def _counter(name: str, sentence: str, value: int) -> Metric:
    return CounterMetricFamily(f"standpipe_{name}", sentence, value=value)


def _gauge(name: str, sentence: str, value: int) -> Metric:
    return GaugeMetricFamily(f"standpipe_{name}", sentence, value=value)


_EVERY_TERM: Final = Balance(
    _NONE, _NONE, _NONE, 0, 0, reading=Reading(0, 0, 0), logged=Logged(0, 0)
)
NAMES: Final = tuple(
    family.name + ("_total" if family.type == "counter" else "")
    for family in _families(_EVERY_TERM)
)
"""What a balance is called in a scrape."""
_served: Final = _Served()
