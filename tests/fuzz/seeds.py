"""What do the hunts begin with? Honest messages and blocks, and one of each lie."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from tests.ingest.straight import worldly
from tests.simnet import mst
from tests.simnet.drisl import link
from tests.simnet.events import Event, error_frame, info_frame
from tests.simnet.keys import Curve
from tests.simnet.lies import LIES
from tests.simnet.source import Source, signed, world

START_US: Final = 1_784_000_000_000_000
"""A time that never changes, in Unix microseconds: one seed tells all."""


@cache
def source() -> Source:
    """The account that all seeds are of."""
    return worldly("fuzz", Curve.K256, START_US)


DID: Final = source().account.did
SMALL: Final = 60_000
"""Seeds above this size, in bytes, only slow the hunt down."""


@cache
def _told() -> tuple[tuple[bytes, ...], tuple[mst.Node, ...]]:
    """Messages, and the trees that they came from."""
    one = source()
    account = one.account
    roots = [account.repo.root]
    events: list[Event] = []

    def say(*said: Event) -> None:
        events.extend(said)
        roots.append(account.repo.root)

    say(*account.born())
    for count in (1, 1, 2, 5, 20):
        say(account.commit(account.choose_writes(one.rng, count)))
    say(account.sync(new_rev=True), account.identity(), account.account_as("deactivated"))
    for lie in LIES.values():
        say(lie.make(one))
    plain = [info_frame("OutdatedCursor", "old"), error_frame("FutureCursor", "no")]
    frames = [event.frame(number) for number, event in enumerate(events, 1)] + plain
    return tuple(raw for raw in frames if len(raw) < SMALL), tuple(roots)


def frames() -> list[bytes]:
    """Whole messages."""
    return list(_told()[0])


def roots() -> tuple[mst.Node, ...]:
    """The trees that the account had, one after the other."""
    return _told()[1]


def a_commit(**more: Any) -> tuple[str, bytes]:
    """A commit's rev and block."""
    one = source()
    rev = one.rev()
    data = one.ground().data
    fields = {"did": DID, "rev": rev, "data": link(data), "prev": None, "version": 3, **more}
    return rev, signed(one, fields)


def some_nodes() -> list[bytes]:
    """Nodes of the world, each behind its level (255: as a root)."""
    found: list[bytes] = []
    root = mst.build(world().items())
    mst.seal(root)
    waiting = [root]
    while waiting:
        node = waiting.pop()
        level = 255 if node is root else node.level
        found.append(bytes([level]) + node.raw)
        waiting += [child for child in node.links if child is not None]
    return [*found, b"\xff" + mst.EMPTY.raw]
