"""The published syntax vectors: every valid text is taken, every invalid one refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.syntax import is_datetime, is_nsid, is_record_key, parse_did, parse_tid
from tests.interop.vectors import lines, needs_interop

PARSERS: dict[str, Callable[[str], object]] = {
    # The vectors' own did:plc is taken as any DID's syntax; ours is stricter about its length.
    "did": parse_did,
    "tid": parse_tid,
    "nsid": is_nsid,
    "recordkey": is_record_key,
    "datetime": is_datetime,
}


@needs_interop
@pytest.mark.parametrize("kind", PARSERS)
def test_every_valid_text_is_taken(kind: str) -> None:
    texts = lines(f"{kind}_syntax_valid.txt")
    assert texts
    assert [text for text in texts if not PARSERS[kind](text)] == []


@needs_interop
@pytest.mark.parametrize("kind", PARSERS)
def test_every_invalid_text_is_refused(kind: str) -> None:
    texts = lines(f"{kind}_syntax_invalid.txt")
    assert texts
    assert [text for text in texts if PARSERS[kind](text)] == []


@needs_interop
def test_a_datetime_that_cannot_be_one_is_refused() -> None:
    texts = lines("datetime_parse_invalid.txt")
    assert texts
    assert [text for text in texts if is_datetime(text)] == []
