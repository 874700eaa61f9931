"""The published syntax vectors: every valid text is taken, every invalid one refused.

Handles, AT URIs, other URIs, languages and identifiers of either kind are in them too; the relay reads
none of these: they stand in records, which are not looked into, or pass unread.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.cid import parse_cid
from common.syntax import is_datetime, is_nsid, is_record_key, parse_did, parse_tid
from tests.interop.vectors import lines

PARSERS: dict[str, Callable[[str], object]] = {
    # The vectors' own did:plc is taken as any DID's syntax; ours is stricter about its length.
    "did": parse_did,
    "tid": parse_tid,
    "nsid": is_nsid,
    "recordkey": is_record_key,
    "datetime": is_datetime,
}


@pytest.mark.parametrize("kind", PARSERS)
def test_every_valid_text_is_taken(kind: str) -> None:
    texts = lines(f"{kind}_syntax_valid.txt")
    assert texts
    assert [text for text in texts if not PARSERS[kind](text)] == []


@pytest.mark.parametrize("kind", PARSERS)
def test_every_invalid_text_is_refused(kind: str) -> None:
    texts = lines(f"{kind}_syntax_invalid.txt")
    assert texts
    assert [text for text in texts if PARSERS[kind](text)] == []


def test_a_datetime_that_cannot_be_one_is_refused() -> None:
    texts = lines("datetime_parse_invalid.txt")
    assert texts
    assert [text for text in texts if is_datetime(text)] == []


def test_of_cids_in_text_none_is_taken_that_is_invalid() -> None:
    """Nor any of the valid ones: no commit, node, record or blob can be named by those."""
    for text in (*lines("cid_syntax_invalid.txt"), *lines("cid_syntax_valid.txt")):
        with pytest.raises(ValueError, match=r"CID|base32|last letter"):
            parse_cid(text)
