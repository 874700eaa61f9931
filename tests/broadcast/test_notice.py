"""broadcast.notice: byte for byte, as the specification's reader has them in hex."""

from __future__ import annotations

import re
from pathlib import Path

import cbor2
import pytest

from broadcast.hole import Cause, Hole
from broadcast.notice import (
    OUTDATED_CURSOR,
    StreamError,
    encode_error,
    encode_info,
    websocket_frame,
)
from broadcast.subscriber import _FAREWELLS

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "consumers.md"


def test_future_cursor_is_byte_exact() -> None:
    expected = "a1626f7020a1656572726f726c467574757265437572736f72"
    assert encode_error(StreamError.FUTURE_CURSOR).hex() == expected


def test_outdated_cursor_is_byte_exact() -> None:
    expected = "a261746523696e666f626f7001a1646e616d656e4f75746461746564437572736f72"
    assert encode_info(OUTDATED_CURSOR).hex() == expected


def test_an_error_frame_has_no_t_and_a_canonical_payload() -> None:
    message = encode_error(StreamError.CONSUMER_TOO_SLOW, "gone for 60 s")
    assert message.startswith(bytes.fromhex("a1626f7020"))
    payload = cbor2.loads(message[5:])
    assert list(payload.items()) == [("error", "ConsumerTooSlow"), ("message", "gone for 60 s")]


@pytest.mark.parametrize(
    ("size", "head"),
    [
        pytest.param(0, "8200", id="empty"),
        pytest.param(125, "827d", id="the largest with one length byte"),
        pytest.param(126, "827e007e", id="the smallest with two"),
        pytest.param(65535, "827effff", id="the largest with two"),
        pytest.param(65536, "827f0000000000010000", id="the smallest with eight"),
    ],
)
def test_a_frame_head_names_its_length(size: int, head: str) -> None:
    assert websocket_frame(b"x" * size) == bytes.fromhex(head) + b"x" * size


def test_the_page_for_consumers_has_the_forms_that_are_sent() -> None:
    page = PAGE.read_text()
    missing, last = re.findall(r"^    (\^.*|.*)\$$", page, re.MULTILINE)
    for cause in Cause:
        found = re.fullmatch(missing + "$", Hole(41, 98, cause).words_from(41))
        assert found is not None
        assert found.groups() == ("41", "97", cause.value)
        assert f"| `{cause.value}` |" in page
    assert re.search(last + "$", "restarting; last seq 12").group(1) == "12"  # type: ignore[union-attr]
    for code, error, words in _FAREWELLS.values():
        assert f"| {int(code)} | `{error.value if error else words}` |" in page
