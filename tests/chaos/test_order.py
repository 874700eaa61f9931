"""Does the bench see what it is for? A trace, numbers and connections that are right, and each way to be wrong."""

from __future__ import annotations

from typing import Any, Final

import pytest

from common.chunk import ChunkKind, Row, encode_chunk
from tests.chaos.numbers import Numbers, messages
from tests.chaos.order import check
from tests.chaos.reader import Connection, Reader

Line = list[Any]
SEG: Final = "00000000000000000001.seg"
GOOD: Final[tuple[Line, ...]] = (
    ["life", 1],
    ["create", SEG],
    ["folder"],
    ["epoch", 1],
    ["write", SEG, 1, []],
    ["sync", SEG],
    ["write", SEG, 1, [[1, 1, 1], [1, 2, 2]]],
    ["sync", SEG],
    ["announce", 2],
    ["publish", 1, 3],
    ["reply", 2, [1, 2], []],
    ["flush", 2, [[1, 2]]],
    ["write", SEG, 3, [[1, 3, 3]]],
    ["sync", SEG],
    ["died", "synced"],
    ["life", 2],
    ["write", SEG, 3, [[1, 3, 3]]],
    ["epoch", 2],
    ["write", SEG, 4, []],
    ["sync", SEG],
    ["announce", 3],
    ["reply", 3, [], [3]],
    ["checkpoint", 3, 2, [[1, 3]]],
    ["sync", "checkpoint.new"],
    ["rename", "checkpoint.new"],
    ["folder"],
    ["oldest", 3],
    ["remove", SEG],
)
"""Two events, one that was synced and never announced, and its writer's successor."""


def without(*places: int) -> list[Line]:
    return [line for at, line in enumerate(GOOD) if at not in places]


def swapped(first: int, second: int) -> list[Line]:
    lines = list(GOOD)
    lines[first], lines[second] = lines[second], lines[first]
    return lines


def test_a_trace_in_order_breaks_nothing() -> None:
    rules = check(GOOD)
    assert rules.broken == []
    assert (rules.announced, rules.died) == (3, ["synced"])


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param(without(2), "before the folder that names it", id="no folder synced"),
        pytest.param(without(7), "seq 1 was announced before it was synced", id="no sync"),
        pytest.param(swapped(7, 8), "announced before it was synced", id="announced before sync"),
        pytest.param(swapped(8, 9), "published before they were", id="published before announced"),
        pytest.param(swapped(9, 10), "answered before it was published", id="answered too early"),
        pytest.param(swapped(10, 11), "cursor 2 in the view passes", id="cursor before the answer"),
        pytest.param(without(16), "seq 3 was announced before", id="a tail is trusted"),
        pytest.param(
            without(19), "seq 3 was announced before", id="a rewritten tail is not synced"
        ),
        pytest.param(without(20), "called a duplicate before", id="duplicate before it is durable"),
        pytest.param(without(21), "cursor 3 in the checkpoint passes", id="checkpoint too early"),
        pytest.param(without(23), "renamed before it was synced", id="checkpoint not synced"),
        pytest.param(swapped(26, 27), "removed while readers", id="removed before it is told"),
        pytest.param(
            [*GOOD, ["write", SEG, 4, [[1, 2, 9]]]], "is seq 2, and seq 4", id="an event twice"
        ),
        pytest.param([*GOOD, ["announce", 2]], "announced after 3", id="the head goes back"),
        pytest.param([*GOOD, ["flush", 4, []]], "before that was announced", id="view ahead"),
    ],
)
def test_a_trace_out_of_order_is_seen(lines: list[Line], told: str) -> None:
    assert any(told in each for each in check(lines).broken)


def test_a_number_that_two_events_had_is_seen_whoever_saw_them() -> None:
    frames = [b"\x82\x03abc", b"\x82\x7e\x00\x80" + b"x" * 128]
    rows = [
        Row(0, 5, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, bytes(16)),
        Row(5, 132, 1, 0, 0, 1, 1, 2, 1, 2, 1, 0, bytes(16)),
    ]
    chunk = encode_chunk(ChunkKind.GROUP, 1, 7, 0, 1, rows, b"".join(frames))
    assert messages(chunk) == [(7, b"abc"), (8, b"x" * 128)]
    numbers = Numbers()
    numbers.see_chunk(chunk, "the log")
    numbers.see(7, b"abc", "a consumer")
    assert numbers.given_twice == []
    numbers.see(7, b"abd", "a consumer")
    assert numbers.given_twice == ["seq 7: the log saw another message than a consumer"]
    numbers.see(10, b"", "a consumer")
    assert (numbers.gaps(), numbers.last) == ([9], 10)


async def _nowhere() -> str | None:
    return None


@pytest.mark.parametrize(
    ("connections", "told"),
    [
        pytest.param([(0, "abc"), (3, "cde")], None, id="the cursor's event again, then the next"),
        pytest.param([(0, "ab"), (2, ""), (2, "bc")], None, id="a connection that brought nothing"),
        pytest.param([(0, "b")], "got 2 where 1", id="the first is missing"),
        pytest.param([(0, "abd")], "got 4 where 3", id="a gap"),
        pytest.param([(0, "abb")], "got 2 where 3", id="one twice"),
        pytest.param([(0, "abc"), (3, "d")], "did not get that again", id="exclusive cursor"),
        pytest.param([(0, "abc"), (3, "bcd")], "did not get that again", id="two again"),
        pytest.param(
            [(0, "abc"), (3, "Cd")], "did not get that again", id="another under its number"
        ),
    ],
)
def test_what_a_consumer_must_not_see_is_seen(
    connections: list[tuple[int, str]], told: str | None
) -> None:
    reader = Reader("reader", _nowhere)
    for cursor, letters in connections:
        frames = [("abcde".index(letter.lower()) + 1, letter.encode()) for letter in letters]
        reader.connections.append(Connection(cursor, frames))
    broken = reader.broken()
    assert bool(broken) is (told is not None)
    assert told is None or told in broken[0]
    reader.connections[0].others.append(b"an error")
    assert "an error" in reader.broken()[0]
