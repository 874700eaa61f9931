"""S-CRY: keys and signatures."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import orjson
import pytest
from coincurve import PrivateKey
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from common.verdict import DropReason
from ingest.did_document import Broken, parse_document
from ingest.signature import (
    K256Key,
    KeyInvalid,
    P256Key,
    parse_legacy_key,
    parse_multikey,
)
from tests.interop.vectors import vectors
from tests.simnet.drisl import cid_of, encode, link
from tests.simnet.events import Event
from tests.simnet.keys import K256_ORDER, ORDER, P256_ORDER, Curve, SigningKey, base58, high_s
from tests.simnet.repo import Commit
from tests.spec.scene import Scene, create

CURVES = list(Curve)


def signed_as(scene: Scene, sig: bytes) -> Event:
    """A commit without ops, with any signature at all."""
    fork = scene.fork([])
    block = encode({**unsigned(scene, fork), "sig": sig})
    fork.cid, fork.blocks = cid_of(block), [(cid_of(block), block)]
    return scene.said(fork)


def unsigned(scene: Scene, fork: Commit) -> dict[str, Any]:
    """What is signed of a commit without ops."""
    data = link(scene.account.repo.data)
    return {"did": fork.did, "rev": fork.rev, "data": data, "prev": None, "version": 3}


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_01_both_curves_sign(curve: Curve) -> None:
    scene = Scene(curve=curve)
    assert scene.fate(scene.commit([create()])) is None
    assert scene.fate(scene.synced(scene.account.repo.commit_block)) is None
    other = Scene(seed="other", curve=curve).account.key
    forged = scene.said(scene.fork([create("com.example.note/b")], key=other))
    assert scene.fate(forged) is DropReason.SIGNATURE_INVALID


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_01_a_key_of_the_other_curve_verifies_nothing(curve: Curve) -> None:
    scene = Scene(curve=curve)
    event = scene.commit([create()])
    other = next(each for each in CURVES if each is not curve)
    scene.account.key = SigningKey(other, "alice/key/0")
    assert scene.fate(event) is DropReason.SIGNATURE_INVALID


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_02_the_signature_covers_the_commit_without_any_sig(curve: Curve) -> None:
    scene = Scene(curve=curve)
    fork = scene.fork([])
    fields = unsigned(scene, fork)

    def told(message: bytes) -> Event:
        block = encode({**fields, "sig": scene.account.key.sign(message)})
        fork.cid, fork.blocks = cid_of(block), [(cid_of(block), block)]
        return scene.said(fork)

    for wrong in (
        encode({**fields, "sig": None}),
        encode({**fields, "sig": b""}),
        sha256(encode(fields)).digest(),
        encode({**fields, "version": 2}),
    ):
        assert scene.fate(told(wrong)) is DropReason.SIGNATURE_INVALID
    assert scene.fate(told(encode(fields))) is None


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_03_a_signature_has_64_bytes_and_is_no_der(curve: Curve) -> None:
    scene = Scene(curve=curve)
    sig = scene.account.key.sign(b"message")
    der = encode_dss_signature(int.from_bytes(sig[:32]), int.from_bytes(sig[32:]))
    key, digest = scene.identity().key, sha256(b"message").digest()
    assert key.verify(digest, sig)
    for wrong in (der, sig[:-1], sig + b"\x00", b"", sig[32:] + sig[:32]):
        assert not key.verify(digest, wrong)
        reason = scene.fate(signed_as(scene, wrong))
        wanted = {DropReason.COMMIT_MALFORMED, DropReason.SIGNATURE_INVALID}
        assert reason in wanted
        assert (reason is DropReason.COMMIT_MALFORMED) == (len(wrong) != 64)


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_04_a_high_s_is_refused(curve: Curve) -> None:
    scene = Scene(curve=curve)
    digest = sha256(b"message").digest()
    sig = scene.account.key.sign(b"message")
    key = scene.identity().key
    assert key.verify(digest, sig)
    assert not key.verify(digest, high_s(sig, curve))
    assert scene.fate(signed_as(scene, high_s(sig, curve))) is DropReason.SIGNATURE_INVALID


def test_s_cry_04_the_bound_of_s_is_half_of_the_order() -> None:
    """s is low up to half of the order, and r and s lie between 1 and the order."""
    assert (
        int("7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8", 16)
        == P256_ORDER // 2
    )
    assert (
        int("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0", 16)
        == K256_ORDER // 2
    )
    for curve in CURVES:
        scene = Scene(curve=curve)
        key, digest = scene.identity().key, sha256(b"m").digest()
        sig = scene.account.key.sign(b"m")
        for wrong in (bytes(32) + sig[32:], sig[:32] + bytes(32), b"\xff" * 32 + sig[32:]):
            assert not key.verify(digest, wrong)
        r_beyond = (int.from_bytes(sig[:32]) + ORDER[curve]) % (1 << 256)
        assert not key.verify(digest, r_beyond.to_bytes(32) + sig[32:])


def test_s_cry_04_the_published_signatures_are_told_apart() -> None:
    found = vectors("crypto/signature-fixtures.json")
    assert {vector["algorithm"] for vector in found} == {"ES256", "ES256K"}
    for vector in found:
        key = parse_multikey(vector["publicKeyDid"].removeprefix("did:key:"))
        message = base64.b64decode(vector["messageBase64"] + "==")
        sig = base64.b64decode(vector["signatureBase64"] + "==")
        assert key.verify(sha256(message).digest(), sig) is vector["validSignature"], vector


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_05_a_multikey_is_a_codec_and_a_compressed_point(curve: Curve) -> None:
    key = SigningKey(curve, "seed")
    codec = {Curve.K256: b"\xe7\x01", Curve.P256: b"\x80\x24"}[curve]
    text = "z" + base58(codec + key.compressed)
    parsed = parse_multikey(text)
    assert isinstance(parsed, K256Key if curve is Curve.K256 else P256Key)
    assert parsed.point == key.compressed
    for wrong in (
        text[1:],
        "u" + text[1:],
        text + "1",
        text[:-1],
        "z" + base58(key.compressed),
        "z" + base58(codec + key.uncompressed),
        "z" + base58(b"\xed\x01" + key.compressed),
        "z" + base58(codec + b"\x05" + key.compressed[1:]),
        "z" + base58(codec + b"\x02" + b"\xff" * 32),
        "z" + base58(codec[:1] + key.compressed),
    ):
        with pytest.raises(KeyInvalid):
            parse_multikey(wrong)


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_05_the_point_may_lie_on_either_side_of_the_curve(curve: Curve) -> None:
    codec = {Curve.K256: b"\xe7\x01", Curve.P256: b"\x80\x24"}[curve]
    seen = set()
    for i in range(20):
        key = SigningKey(curve, f"seed {i}")
        seen.add(key.compressed[0])
        assert parse_multikey("z" + base58(codec + key.compressed)).point == key.compressed
    assert seen == {2, 3}


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_06_a_legacy_key_is_a_point_and_nothing_else(curve: Curve) -> None:
    name = {Curve.K256: "K-256", Curve.P256: "P-256"}[curve]
    digest = sha256(b"m").digest()
    for i in range(8):
        key = SigningKey(curve, f"seed {i}")
        for point in (key.uncompressed, key.compressed):
            parsed = parse_legacy_key("z" + base58(point), name)
            assert parsed.verify(digest, key.sign(b"m"))
        hybrid = bytes([6 + key.uncompressed[-1] % 2]) + key.uncompressed[1:]
        for wrong in (
            hybrid,
            key.uncompressed[:-1],
            key.compressed + b"\0",
            b"\4" + key.compressed[1:],
        ):
            with pytest.raises(KeyInvalid):
                parse_legacy_key("z" + base58(wrong), name)


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_06_the_legacy_form_of_a_key_is_taken_too(curve: Curve) -> None:
    scene = Scene(curve=curve)
    scene.account.legacy_document = True
    assert scene.identity().key.curve == {Curve.K256: "K-256", Curve.P256: "P-256"}[curve]
    assert scene.fate(scene.commit([create()])) is None


def test_s_cry_06_a_key_of_any_other_type_is_none() -> None:
    scene = Scene()
    document = scene.account.document("https://pds.example.com")
    document["verificationMethod"][0]["type"] = "Ed25519VerificationKey2020"
    found = parse_document(orjson.dumps(document), scene.account.did, allow_insecure=False)
    assert isinstance(found, Broken)


@pytest.mark.parametrize("curve", CURVES)
def test_s_cry_07_any_right_signature_verifies_not_only_one(curve: Curve) -> None:
    """ECDSA has many signatures for one message; which one a host made is its own affair."""
    secret = 12_345_678_901_234_567_890
    message, found = b"message", set()
    key: K256Key | P256Key
    if curve is Curve.P256:
        private = ec.derive_private_key(secret, ec.SECP256R1())
        numbers = private.public_key().public_numbers()
        key = P256Key(b"\x04" + numbers.x.to_bytes(32) + numbers.y.to_bytes(32))
    else:
        private = ec.derive_private_key(secret, ec.SECP256K1())
        key = K256Key(PrivateKey(secret.to_bytes(32)).public_key.format())
    for _ in range(5):
        r, s = decode_dss_signature(private.sign(message, ec.ECDSA(SHA256())))
        sig = r.to_bytes(32) + min(s, ORDER[curve] - s).to_bytes(32)
        assert key.verify(sha256(message).digest(), sig)
        found.add(sig)
    assert len(found) == 5
