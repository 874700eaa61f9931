"""Signatures on both curves: the one right one, and all the wrong ones."""

from __future__ import annotations

from hashlib import sha256

import pytest
from coincurve import PrivateKey
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.signature import (
    P256_ORDER,
    K256Key,
    Key,
    KeyInvalid,
    P256Key,
    parse_legacy_key,
    parse_multikey,
)

K256_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGEST = sha256(b"message").digest()


def k256() -> tuple[Key, bytes]:
    secret = PrivateKey(b"\x05" * 32)
    sig = secret.sign_recoverable(DIGEST, hasher=None)[:64]
    return K256Key(secret.public_key.format()), sig


def p256() -> tuple[Key, bytes]:
    secret = ec.derive_private_key(12345, ec.SECP256R1())
    r, s = decode_dss_signature(secret.sign(DIGEST, ec.ECDSA(Prehashed(SHA256()))))
    s = min(s, P256_ORDER - s)
    point = secret.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return P256Key(point), r.to_bytes(32, "big") + s.to_bytes(32, "big")


CURVES = [pytest.param(k256, K256_ORDER, id="K-256"), pytest.param(p256, P256_ORDER, id="P-256")]


@pytest.mark.parametrize(("curve", "order"), CURVES)
def test_only_the_right_low_s_signature_verifies(curve: type, order: int) -> None:
    key, sig = curve()
    r, s = sig[:32], int.from_bytes(sig[32:], "big")
    assert key.verify(DIGEST, sig)
    zero, full = bytes(32), order.to_bytes(32, "big")
    for wrong in (
        r + (order - s).to_bytes(32, "big"),  # high-S
        zero + sig[32:],
        r + zero,
        full + sig[32:],
        r + full,
        b"\xff" * 64,
        bytes(64),
        sig[:63],
        sig + b"\0",
        b"",
        sig[32:] + sig[:32],
    ):
        assert not key.verify(DIGEST, wrong)
    assert not key.verify(sha256(b"other").digest(), sig)
    assert not key.verify(b"short", sig)


def base58(raw: bytes) -> str:
    letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, out = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        out = letters[digit] + out
    return "z" + "1" * (len(raw) - len(raw.lstrip(b"\0"))) + out


POINT = PrivateKey(b"\x05" * 32).public_key.format()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("z", id="no bytes"),
        pytest.param("f" + POINT.hex(), id="another base"),
        pytest.param("z0OIl", id="letters that base58 lacks"),
        pytest.param(base58(b"\xe7\x01" + POINT[:-1]), id="a point too short"),
        pytest.param(base58(b"\xe7\x01" + POINT + b"\0"), id="a point too long"),
        pytest.param(base58(b"\xed\x01" + POINT), id="another codec"),
        pytest.param(base58(b"\xe7\x01" + b"\x05" + POINT[1:]), id="another form of point"),
        pytest.param(base58(b"\xe7\x01\x02" + b"\xff" * 32), id="off K-256"),
        pytest.param(base58(b"\x80\x24\x02" + b"\xff" * 32), id="off P-256"),
        pytest.param("z" + "2" * 100_000, id="endless"),
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(KeyInvalid):
        parse_multikey(text)


def test_a_legacy_key_is_its_uncompressed_point() -> None:
    whole = PrivateKey(b"\x05" * 32).public_key.format(compressed=False)
    key, sig = k256()
    assert parse_legacy_key(base58(whole), "K-256").verify(DIGEST, sig)
    with pytest.raises(KeyInvalid):
        parse_legacy_key(base58(whole), "P-256")
    with pytest.raises(KeyInvalid):
        parse_legacy_key(base58(whole[1:]), "K-256")
    assert key.verify(DIGEST, sig)
