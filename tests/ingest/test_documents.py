"""Is what is kept of a document the same when it comes back?"""

from __future__ import annotations

import pytest
from coincurve import PrivateKey
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.did_document import Broken, Identity, NotFound
from ingest.documents import Document, Row, Unwritten, columns_of, document_of, row_of
from ingest.signature import K256Key, Key, P256Key

DID = "did:plc:" + "a" * 24
K256 = PrivateKey(b"\x07" * 32).public_key
P256 = ec.derive_private_key(7, ec.SECP256R1()).public_key()
KEYS: list[Key] = [
    K256Key(K256.format()),
    K256Key(K256.format(compressed=False)),
    P256Key(P256.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)),
    P256Key(P256.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.curve} {len(key.point)}")
def test_a_key_comes_back_as_it_was(key: Key) -> None:
    kept = document_of(row_of(Document(DID, Identity(DID, key, "pds.example.com"), 5.5)))
    assert kept is not None
    assert isinstance(kept.known, Identity)
    assert kept.known.host == "pds.example.com"
    assert (kept.known.key.curve, kept.known.key.point) == (key.curve, key.point)
    assert (kept.did, kept.asked_s) == (DID, 5.5)


@pytest.mark.parametrize("known", [Broken("no key"), NotFound("status 404")], ids=str)
def test_why_there_is_no_key_comes_back_too(known: Broken | NotFound) -> None:
    document = Document(DID, known, 5.0)
    assert document_of(row_of(document)) == document


def test_a_row_that_this_release_cannot_have_written_says_nothing() -> None:
    good = row_of(Document(DID, Identity(DID, KEYS[0], "a.example"), 1.0))
    for changed in (
        {"outcome": "later"}, {"curve": "Ed25519"}, {"curve": None}, {"key": None},
        {"key": b"\x02" + b"\xff" * 32}, {"key": b""}, {"host": None},
    ):  # fmt: skip
        assert document_of(good._replace(**changed)) is None


def document(number: int, asked_s: float = 1.0) -> Document:
    return Document(f"did:web:{number}.example", Broken("x"), asked_s)


def dids(rows: list[Row]) -> list[str]:
    return [row.did for row in rows]


def test_what_waits_is_the_newest_of_each_and_bounded() -> None:
    waiting = Unwritten(3)
    for number in (1, 2, 3, 4):
        waiting.put(document(number))
    assert (len(waiting), waiting.counts["lost"]) == (3, 1)
    waiting.put(document(3, 9.0))
    waiting.put(document(3, 5.0))
    taken = waiting.take(2)
    assert dids(taken) == ["did:web:2.example", "did:web:3.example"]
    assert taken[1].asked_s == 9.0
    # Meanwhile the first was answered anew.
    waiting.put(document(2, 7.0))
    waiting.give_back(taken)
    assert (len(waiting), waiting.counts["lost"]) == (3, 1)
    rows = {row.did: row.asked_s for row in waiting.take(10)}
    assert rows == {
        "did:web:3.example": 9.0, "did:web:4.example": 1.0, "did:web:2.example": 7.0,
    }  # fmt: skip
    assert waiting.take(10) == []
    waiting.give_back(taken * 3)
    waiting.put(document(8))
    waiting.put(document(9))
    assert len(waiting) == 3


def test_two_writers_take_their_rows_in_one_order() -> None:
    rows = [row_of(document(number)) for number in (2, 3, 1)]
    assert columns_of(rows)[0] == [f"did:web:{n}.example" for n in (1, 2, 3)]
