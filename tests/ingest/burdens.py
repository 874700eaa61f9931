"""Which commits cost a judge the most, though everything in them is true? Up to 2 MB each.

Each is rightly signed and wholly sound, so that no check but a limit ends the work early. All are of
one account; the keys of the tall trees were mined (tests.ingest.mined).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from common.envelope import NEVER_SEEN
from common.verdict import DropReason
from tests.ingest.mined import mined_keys
from tests.simnet import mst
from tests.simnet.account import plc_did
from tests.simnet.clock import tid
from tests.simnet.drisl import car, cid_of, encode, link
from tests.simnet.events import Kind, make_event
from tests.simnet.keys import Curve, SigningKey

DID: Final = plc_did("burden")
KEY: Final = SigningKey(Curve.P256, "burden")
"""On the curve whose verification costs more."""
REV: Final = tid(1_784_000_000_000_000)
TIME: Final = "2026-07-14T03:33:20.000Z"
STATE: Final = NEVER_SEEN
_ALPHABET: Final = sorted("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_~")
RECORD: Final = encode({"$type": "com.example.burden"})

Values = dict[bytes, bytes]


class TooLarge(Exception):
    """More than 2,000,000 bytes of blocks."""


def largest(make: Callable[[int], bytes], count: int) -> bytes:
    """What `make` makes of the largest count, up to this one, that fits."""
    while True:
        try:
            return make(count)
        except TooLarge as error:
            count = int(count * 1_990_000 / error.args[0])


def message(
    before: Values,
    after: Values,
    *,
    records: list[bytes] = [RECORD],  # noqa: B006 - left alone
    keep: Callable[[mst.Node], bool] = lambda _: True,
    roots: int = 1,
    extra: dict[str, Any] | None = None,
    fields: dict[str, Any] | None = None,
    surplus: list[bytes] = [],  # noqa: B006 - left alone
) -> bytes:
    """The `#commit` that leads from one tree to another, with as many nodes as there is room for.

    keep: which nodes go in. roots: how often the CAR names its root. extra: more fields of the
    commit object. fields: more of the message.
    """
    ops = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        action = "create" if old is None else "delete" if new is None else "update"
        op: dict[str, Any] = {"action": action, "path": key.decode(), "cid": new and link(new)}
        ops.append(op if old is None else {**op, "prev": link(old)})
    assert len(ops) <= 200
    root, old_root = mst.build(after.items()), mst.build(before.items())
    mst.seal(root)
    mst.seal(old_root)
    assert root.cid is not None
    assert old_root.cid is not None
    unsigned = {"did": DID, "rev": REV, "data": link(root.cid), "prev": None, "version": 3}
    unsigned |= extra or {}
    commit = encode({**unsigned, "sig": KEY.sign(encode(unsigned))})
    nodes = [node for node in all_nodes(root) if keep(node)]
    blocks = [commit, *(node.raw for node in nodes), *records, *surplus]
    named = [(cid_of(block), block) for block in blocks]
    made = car([cid_of(commit)] * roots, named)
    if len(made) > 2_000_000:
        raise TooLarge(len(made))
    event = make_event(
        Kind.COMMIT,
        {
            "repo": DID, "rev": REV, "since": None, "commit": link(cid_of(commit)), "ops": ops,
            "blobs": [], "blocks": made, "rebase": False, "tooBig": False, "time": TIME,
            "prevData": link(old_root.cid), **(fields or {}),
        },
    )  # fmt: skip
    return event.frame(1)


def all_nodes(node: mst.Node) -> list[mst.Node]:
    """The nodes of a tree, parents first."""
    found = [node]
    for child in node.links:
        if child is not None:
            found += all_nodes(child)
    return found


def value(number: int) -> bytes:
    """The CID of a record that is not in the CAR."""
    return cid_of(b"%d" % number)


@cache
def short_keys(most: int) -> tuple[bytes, ...]:
    """Keys that share nearly everything with their neighbours: as many entries as there can be."""
    return tuple(
        f"a.b.c/{a}{b}{c}".encode()
        for a in _ALPHABET for b in _ALPHABET for c in _ALPHABET
    )[:most]  # fmt: skip


def narrow(count: int) -> Values:
    """A tree of so many short keys, of every depth there is."""
    return {key: value(i) for i, key in enumerate(short_keys(count))}


@cache
def wide(count: int, full: int = 255) -> Values:
    """A tree of two levels: nodes of so many keys at the bottom, one key above goes in between."""
    found: Values = {}
    run = above = 0
    for i, key in enumerate(short_keys(len(_ALPHABET) ** 3)):
        depth = mst.depth_of(key)
        if depth == 0 and run < full:
            run += 1
        elif depth == 1 and run == full and above < 255:
            run, above = 0, above + 1
        else:
            continue
        found[key] = value(i)
        if len(found) == count:
            break
    return found


def every(values: Values, count: int, *, at: int = 7) -> list[bytes]:
    """So many keys, spread over all of them."""
    keys = list(values)
    step = max(1, len(keys) // count)
    return keys[at % step :: step][:count]


def low(values: Values, count: int) -> list[bytes]:
    """The same of those at the bottom, so that no two full nodes were one before."""
    return every({key: values[key] for key in values if mst.depth_of(key) == 0}, count)


def without(values: Values, gone: list[bytes]) -> Values:
    """The same without some keys."""
    left = dict(values)
    for key in gone:
        left.pop(key, None)
    return left


def created(values: Values, keys: list[bytes]) -> bytes:
    """The commit that created these keys, all with one record."""
    after = values | dict.fromkeys(keys, cid_of(RECORD))
    return message(without(values, keys), after)


def as_many_nodes_as_there_may_be() -> bytes:
    return created(values := narrow(11_400), every(values, 200))


def as_many_entries_as_there_may_be() -> bytes:
    return created(values := wide(12_288), low(values, 200))


def more_entries_than_there_may_be() -> bytes:
    return largest(lambda count: created(values := wide(count), low(values, 200)), 36_000)


def two_hundred_deletions_of_full_nodes() -> bytes:
    values = wide(12_288)
    return message(values, without(values, low(values, 200)), records=[])


def two_hundred_changes_of_one_node() -> bytes:
    values = wide(255)
    return created(values, list(values)[:200])


def deletions_from_the_upper_level() -> bytes:
    """Each put in again splits a full node."""
    values = wide(12_288, 127)
    upper = [key for key in values if mst.depth_of(key) == 1]
    return message(values, without(values, upper[::2]), records=[])


def creations_between_full_nodes() -> bytes:
    """Each taken back makes one node of two, and in the end of all: more than any tree before had."""
    values = wide(12_288, 60)
    upper = [key for key in values if mst.depth_of(key) == 1]
    return created(values, upper[:200])


def creations_between_nodes_that_fill_one() -> bytes:
    """The same, as far as it is borne."""
    values = wide(12_288, 120)
    upper = [key for key in values if mst.depth_of(key) == 1]
    return created(values, upper[::2])


def a_tall_tree_and_changes_at_its_bottom() -> bytes:
    tall = mined_keys(10)
    below = [b"%b-%d" % (key, i) for key in tall for i in range(40)]
    low = [key for key in below if mst.depth_of(key) == 0]
    values = {key: value(i) for i, key in enumerate((*tall, *low))}
    return created(values, low[:: len(low) // 200][:200])


def two_hundred_tall_keys_created() -> bytes:
    """Each taken back merges two towers of nodes without entries."""
    tall = mined_keys(8)[:200]
    low = [b"com.example.tall/%s~" % key.rpartition(b"/")[2] for key in tall]
    values = {key: value(i) for i, key in enumerate(low)}
    return created(values | dict.fromkeys(tall, value(0)), list(tall))


def two_hundred_tall_keys_deleted() -> bytes:
    """Each put in again splits what is between."""
    tall = mined_keys(8)[:200]
    low = [b"com.example.tall/%s~" % key.rpartition(b"/")[2] for key in tall]
    top = dict.fromkeys(mined_keys(11), value(1))
    before = top | {key: value(i) for i, key in enumerate([*low, *tall])}
    return message(before, without(before, list(tall)), records=[])


def thousands_of_tiny_blocks() -> bytes:
    values = narrow(500)
    tiny = [encode(number) for number in range(2_900)]
    return message(
        without(values, keys := every(values, 100)),
        values | dict.fromkeys(keys, cid_of(RECORD)),
        surplus=tiny,
    )


def nodes_of_one_entry() -> bytes:
    """As many small nodes as blocks are borne, each on its own branch."""
    values: Values = {}
    wanted = ([0, 1] * 14 + [0, 2]) * 190
    for i, key in enumerate(short_keys(len(_ALPHABET) ** 3)):
        if len(values) < len(wanted) and mst.depth_of(key) == wanted[len(values)]:
            values[key] = value(i)
    return created(values, every(values, 200))


def _with_records(records: list[bytes]) -> bytes:
    values = dict.fromkeys(short_keys(len(records)), b"")
    after = {key: cid_of(record) for key, record in zip(values, records, strict=True)}
    return message({}, after, records=records)


def records_of_tiny_items() -> bytes:
    """Two hundred records that are all small integers: 9 kB each."""
    return _with_records([encode({"a": [i % 24] * 9_000, "b": i}) for i in range(200)])


def records_of_tiny_items_below_every_budget() -> bytes:
    return _with_records([encode({"a": [i % 24] * 1_200, "b": i}) for i in range(200)])


def records_of_many_maps() -> bytes:
    return _with_records([encode({"a": [{"b": {}}] * 1_600, "i": i}) for i in range(200)])


def records_nested_as_deep_as_may_be() -> bytes:
    deep: Any = 1
    for _ in range(29):
        deep = [deep]
    return _with_records([encode({"a": [deep] * 200, "i": i}) for i in range(200)])


def a_record_nested_without_end() -> bytes:
    return _with_records([b"\xa1\x61a" + b"\x81" * 999_990 + b"\x80"])


def a_record_of_one_long_text() -> bytes:
    return _with_records([encode({"a": "\u00e4" * 499_000}), encode({"a": "x" * 990_000})])


def records_of_links() -> bytes:
    return _with_records(
        [encode({"a": [link(value(j)) for j in range(230)], "i": i}) for i in range(190)]
    )


def a_commit_of_as_many_fields_as_may_be() -> bytes:
    """All under the signature: the map has to be read to its end."""
    values = wide(12_000)
    after = values | dict.fromkeys(keys := low(values, 200), cid_of(RECORD))
    more = {f"x{i:03}": [0, 0] for i in range(240)}
    return message(without(values, keys), after, extra=more)


def a_commit_of_more_fields() -> bytes:
    more = {f"x{i:03}": [0] * 60 for i in range(240)}
    return message({}, {short_keys(1)[0]: cid_of(RECORD)}, extra=more)


def a_car_of_more_roots() -> bytes:
    return message({}, {short_keys(1)[0]: cid_of(RECORD)}, roots=16_000)


def everything_at_once() -> bytes:
    """Message, commit, tree and records each as dear as they may be; the room is shared."""
    values = wide(12_000)
    keys = low(values, 200)
    records = [encode({"a": [i % 24] * 1_000, "b": i}) for i in range(len(keys))]
    after = values | {key: cid_of(record) for key, record in zip(keys, records, strict=True)}
    return message(
        without(values, keys),
        after,
        records=records,
        extra={f"x{i:03}": [0, 0] for i in range(240)},
        fields={"x": [0] * 2_000},
        roots=1_000,
    )


def everything_at_once_with_records_of_links() -> bytes:
    """What the arbiter may read of records, used up to the last item: a link costs it the most."""
    values = wide(12_000)
    keys = low(values, 200)
    links = [link(value(j)) for j in range(76)]
    records = [encode({"a": links, "b": i}) for i in range(len(keys))]
    after = values | {key: cid_of(record) for key, record in zip(keys, records, strict=True)}
    return message(
        without(values, keys), after, records=records, fields={"x": [0] * 2_000}, roots=1_000
    )


BURDENS: Final[dict[Callable[[], bytes], DropReason | None]] = {
    as_many_nodes_as_there_may_be: None,
    as_many_entries_as_there_may_be: None,
    more_entries_than_there_may_be: DropReason.TREE_MALFORMED,
    two_hundred_deletions_of_full_nodes: None,
    two_hundred_changes_of_one_node: None,
    deletions_from_the_upper_level: None,
    creations_between_full_nodes: DropReason.TREE_MALFORMED,
    creations_between_nodes_that_fill_one: None,
    a_tall_tree_and_changes_at_its_bottom: None,
    two_hundred_tall_keys_created: None,
    two_hundred_tall_keys_deleted: None,
    thousands_of_tiny_blocks: None,
    nodes_of_one_entry: None,
    records_of_tiny_items: None,
    records_of_tiny_items_below_every_budget: None,
    records_of_many_maps: None,
    records_nested_as_deep_as_may_be: None,
    a_record_nested_without_end: DropReason.RECORD_MALFORMED,
    a_record_of_one_long_text: None,
    records_of_links: None,
    a_commit_of_as_many_fields_as_may_be: None,
    a_commit_of_more_fields: DropReason.COMMIT_MALFORMED,
    a_car_of_more_roots: DropReason.CAR_MALFORMED,
    everything_at_once: None,
    everything_at_once_with_records_of_links: None,
}
"""Each with the reason that it is dropped for, once more work than is borne has shown itself."""
