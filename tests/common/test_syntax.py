"""Texts of the protocol, beyond what the published vectors say (tests/interop)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.syntax import (
    is_nsid,
    is_path,
    is_record_key,
    parse_did,
    parse_tid,
    tid_number,
    tid_text,
    tid_time_s,
)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_tids_sort_as_text_as_their_numbers_do(one: int, other: int) -> None:
    assert tid_number(tid_text(one)) == one
    assert parse_tid(tid_text(one)) == tid_text(one)
    assert (tid_text(one) < tid_text(other)) == (one < other)


def test_a_tid_tells_its_time() -> None:
    assert tid_time_s("3mptbypluud2a") == pytest.approx(1783175887, abs=1)


@pytest.mark.parametrize("value", [None, 5, b"3mptbypluud2a", "3mptbypluud2a\n", "", "é" * 13])
def test_other_values_are_no_tid(value: object) -> None:
    assert parse_tid(value) is None


@pytest.mark.parametrize(
    "value",
    ["did:plc:" + "A" * 24, "did:plc:" + "a" * 23, "did:plc:" + "1" * 24, "did:plc:", None, 7,
     "did:web:" + "a" * 2048, "did:web:a.example\n"],
)  # fmt: skip
def test_what_is_not_normal_is_no_did(value: object) -> None:
    assert parse_did(value) is None


def test_the_longest_did_is_one() -> None:
    assert parse_did("did:web:" + "a" * 2040)


def test_an_nsid_stays_one_however_many_were_seen() -> None:
    for number in range(5000):
        assert is_nsid(f"app.example.x{number}")
    assert is_nsid("app.example.x1")
    assert not is_nsid("app.example.1")


def test_a_path_is_an_nsid_a_slash_and_a_key() -> None:
    assert is_path("app.bsky.feed.post/3k:a~b_c-d.e")
    assert not is_path("app.bsky.feed.post//3k")
    assert not is_path("/app.bsky.feed.post/3k")
    assert is_record_key("...")
    assert not is_record_key("..")
