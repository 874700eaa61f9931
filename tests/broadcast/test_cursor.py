"""broadcast.cursor: the rules of S-CUR, as a table."""

from __future__ import annotations

import pytest

from broadcast.cursor import BadCursor, Future, Live, Replay, Start, decide_start, parse_cursor


@pytest.mark.parametrize(
    ("query", "cursor"),
    [
        pytest.param("", None, id="no query is no cursor"),
        pytest.param("cursor=", None, id="an empty cursor is as good as none"),
        pytest.param("cursor", None, id="a cursor without a value is as good as none"),
        pytest.param("cursor=0", 0, id="zero is a cursor"),
        pytest.param("cursor=17", 17, id="a number is a cursor"),
        pytest.param("cursor=0017", 17, id="leading zeros do no harm"),
        pytest.param("cursor=%31%37", 17, id="escapes are undone"),
        pytest.param("a=1&cursor=5&wantedDids=x", 5, id="unknown parameters are ignored"),
        pytest.param("Cursor=5", None, id="names are case-sensitive"),
        pytest.param("cursor=9223372036854775807", 2**63 - 1, id="the highest integer is taken"),
        pytest.param("cursor=00000000000000000000009", 9, id="many zeros are no large number"),
    ],
)
def test_a_cursor_is_read_from_the_query(query: str, cursor: int | None) -> None:
    assert parse_cursor(query) == cursor


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("cursor=-1", id="negative"),
        pytest.param("cursor=abc", id="letters"),
        pytest.param("cursor=1.5", id="fraction"),
        pytest.param("cursor=1e3", id="exponent"),
        pytest.param("cursor=0x10", id="hexadecimal"),
        pytest.param("cursor=1_000", id="underscores, which Python would take"),
        pytest.param("cursor=+5", id="a sign, which arrives as a space"),
        pytest.param("cursor=%2B5", id="an escaped sign"),
        pytest.param("cursor=%D9%A1", id="a digit of another script, which Python would take"),
        pytest.param("cursor=%20", id="a space"),
        pytest.param("cursor=null", id="null"),
        pytest.param("cursor=9223372036854775808", id="beyond 64 bits"),
        pytest.param("cursor=" + "9" * 5000, id="thousands of digits"),
        pytest.param("cursor=1&cursor=1", id="twice the same"),
        pytest.param("cursor=&cursor=7", id="once empty and once not"),
        pytest.param("&".join(["a=1"] * 200), id="hundreds of parameters"),
    ],
)
def test_what_means_nothing_is_refused(query: str) -> None:
    with pytest.raises(BadCursor):
        parse_cursor(query)


@pytest.mark.parametrize(
    ("cursor", "oldest", "durable", "start"),
    [
        pytest.param(None, 1, 50, Live(), id="none is live only"),
        pytest.param(0, 1, 50, Replay(1), id="zero is the whole window"),
        pytest.param(0, 20, 50, Replay(20), id="zero is the whole window, without an info"),
        pytest.param(0, 1, 0, Replay(1), id="zero before the first event waits for it"),
        pytest.param(30, 20, 50, Replay(30), id="a cursor is inclusive"),
        pytest.param(50, 20, 50, Replay(50), id="the newest seq is sent again"),
        pytest.param(20, 20, 50, Replay(20), id="the oldest seq is within the window"),
        pytest.param(19, 20, 50, Replay(20), id="who saw the last purged seq missed nothing"),
        pytest.param(18, 20, 50, Replay(20, outdated=True), id="who missed one seq is told"),
        pytest.param(1, 20, 50, Replay(20, outdated=True), id="who missed many is told"),
        pytest.param(1, 1, 50, Replay(1), id="nothing purged is never outdated"),
        pytest.param(50, 51, 50, Replay(51), id="all purged, and the newest was seen"),
        pytest.param(49, 51, 50, Replay(51, outdated=True), id="all purged, and one was missed"),
        pytest.param(51, 20, 50, Future(50), id="the next seq is in the future by the letter"),
        pytest.param(1, 1, 0, Future(0), id="any seq is in the future of an empty log"),
        pytest.param(2**63 - 1, 20, 50, Future(50), id="far in the future"),
    ],
)
def test_a_start_is_decided(cursor: int | None, oldest: int, durable: int, start: Start) -> None:
    assert decide_start(cursor, oldest_seq=oldest, durable_seq=durable) == start
