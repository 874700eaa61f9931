"""The published signatures and keys."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from typing import Any

import pytest
from coincurve import PrivateKey
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.signature import parse_legacy_key, parse_multikey
from tests.interop.vectors import vectors


def unpadded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4))


SIGNATURES: list[dict[str, Any]] = vectors("crypto/signature-fixtures.json")


def test_there_are_signatures_of_both_curves_and_both_verdicts() -> None:
    assert {(v["algorithm"], v["validSignature"]) for v in SIGNATURES} == {
        ("ES256", True), ("ES256", False), ("ES256K", True), ("ES256K", False),
    }  # fmt: skip


@pytest.mark.parametrize("vector", SIGNATURES, ids=lambda v: v["comment"])
def test_a_published_signature_has_its_verdict(vector: dict[str, Any]) -> None:
    digest = sha256(unpadded(vector["messageBase64"])).digest()
    sig = unpadded(vector["signatureBase64"])
    curve = "K-256" if vector["algorithm"] == "ES256K" else "P-256"
    for key in (
        parse_multikey(vector["publicKeyDid"].removeprefix("did:key:")),
        parse_legacy_key(vector["publicKeyMultibase"], curve),
    ):
        assert key.curve == curve
        assert key.verify(digest, sig) == vector["validSignature"]


@pytest.mark.parametrize("vector", vectors("crypto/w3c_didkey_K256.json"))
def test_a_published_k256_key_is_read(vector: dict[str, str]) -> None:
    key = parse_multikey(vector["publicDidKey"].removeprefix("did:key:"))
    assert key.point == PrivateKey.from_hex(vector["privateKeyBytesHex"]).public_key.format()


@pytest.mark.parametrize("vector", vectors("crypto/w3c_didkey_P256.json"))
def test_a_published_p256_key_is_read(vector: dict[str, str]) -> None:
    key = parse_multikey(vector["publicDidKey"].removeprefix("did:key:"))
    secret = _from_base58(vector["privateKeyBytesBase58"])
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    assert key.point == public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def _from_base58(text: str) -> int:
    letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number = 0
    for letter in text:
        number = number * 58 + letters.index(letter)
    return number
