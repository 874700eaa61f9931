"""Who signs? Real keys on both curves, from a seed, and how a DID document names them.

Source: atproto cryptography specification; DID specification, "Representation of Public Keys".
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final, Protocol

import coincurve
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

K256_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_PREHASHED: Final = ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True)
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Curve(StrEnum):
    """The two curves of the protocol."""

    K256 = "k256"
    P256 = "p256"


ORDER: Final = {Curve.K256: K256_ORDER, Curve.P256: P256_ORDER}
_CODEC: Final = {Curve.K256: b"\xe7\x01", Curve.P256: b"\x80\x24"}
_LEGACY_TYPE: Final = {
    Curve.K256: "EcdsaSecp256k1VerificationKey2019",
    Curve.P256: "EcdsaSecp256r1VerificationKey2019",
}


class _Secret(Protocol):
    def sign(self, digest: bytes) -> bytes: ...


class _K256:
    def __init__(self, secret: bytes) -> None:
        self._key = coincurve.PrivateKey(secret)
        self.compressed: bytes = self._key.public_key.format(compressed=True)
        self.uncompressed: bytes = self._key.public_key.format(compressed=False)

    def sign(self, digest: bytes) -> bytes:
        signature: bytes = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64]  # libsecp256k1 gives low-S only


class _P256:
    def __init__(self, secret: bytes) -> None:
        number = int.from_bytes(secret) % (P256_ORDER - 1) + 1
        self._key = ec.derive_private_key(number, ec.SECP256R1())
        public = self._key.public_key()
        self.compressed = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        self.uncompressed = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, digest: bytes) -> bytes:
        r, s = utils.decode_dss_signature(self._key.sign(digest, _PREHASHED))
        return r.to_bytes(32) + min(s, P256_ORDER - s).to_bytes(32)


class SigningKey:
    """One signing key; the same seed text gives the same key."""

    def __init__(self, curve: Curve, seed: str) -> None:
        secret = hashlib.sha256(seed.encode()).digest()
        key = _K256(secret) if curve is Curve.K256 else _P256(secret)
        self.curve = curve
        self.compressed = key.compressed
        self.uncompressed = key.uncompressed
        self._secret: _Secret = key

    def sign(self, unsigned: bytes) -> bytes:
        """The signature (64 bytes, low-S) over the SHA-256 of some bytes."""
        return self._secret.sign(hashlib.sha256(unsigned).digest())

    def verification_method(self, did: str, *, legacy: bool = False) -> dict[str, str]:
        """The DID document's entry for this key, in today's form or the old one."""
        if legacy:
            return {
                "id": "#atproto",
                "type": _LEGACY_TYPE[self.curve],
                "controller": did,
                "publicKeyMultibase": "z" + base58(self.uncompressed),
            }
        return {
            "id": f"{did}#atproto",
            "type": "Multikey",
            "controller": did,
            "publicKeyMultibase": "z" + base58(_CODEC[self.curve] + self.compressed),
        }


def high_s(signature: bytes, curve: Curve) -> bytes:
    """The other valid signature, which the protocol forbids (S-CRY-04)."""
    s = int.from_bytes(signature[32:])
    return signature[:32] + (ORDER[curve] - s).to_bytes(32)


def base58(data: bytes) -> str:
    """Base58 in Bitcoin's alphabet."""
    number = int.from_bytes(data)
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text
