"""Does this signature belong to this key?

    K-256  libsecp256k1 through coincurve's C interface, the parsed key kept: 27 to 40 µs
    P-256  OpenSSL through cryptography: 70 µs; it accepts high-S, so that is refused here

Signatures are 64 bytes, r and s; high-S and DER are refused on both curves. This module does not
know what is signed, and it does not fetch keys.

Source: the cryptography spec; the did:key method for the text form of keys; S-CRY-01, S-CRY-03 to 07.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from coincurve._libsecp256k1 import ffi, lib
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

SIGNATURE_BYTES: Final = 64
"""Source: S-CRY-03."""
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
K256_CODEC: Final = b"\xe7\x01"
P256_CODEC: Final = b"\x80\x24"
MAX_KEY_CHARS: Final = 128
"""The longest form, legacy and uncompressed, has 89 characters."""

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VALUES: Final = {letter: value for value, letter in enumerate(_BASE58)}
_PREHASHED: Final = ec.ECDSA(Prehashed(SHA256()))
_CONTEXT: Final = lib.secp256k1_context_static
"""Verification needs no tables or secrets of a context's own."""
_signature: Final = ffi.new("secp256k1_ecdsa_signature *")
"""Scratch space. Verification happens on one thread, and keeps nothing there between calls."""


class KeyInvalid(ValueError):
    """This text is no key that an account can sign with; the message says why."""


class Key(Protocol):
    """A parsed public key, of either curve (S-CRY-01)."""

    curve: str
    point: bytes

    def verify(self, digest: bytes, sig: bytes) -> bool:
        """Whether `sig` (64 bytes, low-S) over the SHA-256 `digest` was made with this key.

        Asked of a library, and nothing is compared with a signature of before. Source: S-CRY-07.
        """


class K256Key:
    """A key on secp256k1, parsed by libsecp256k1."""

    __slots__ = ("_parsed", "point")
    curve = "K-256"

    def __init__(self, point: bytes) -> None:
        """Parse a point of 33 or 65 bytes.

        Raises:
            KeyInvalid: not on the curve.
        """
        self._parsed: Any = ffi.new("secp256k1_pubkey *")
        self.point = point
        if not lib.secp256k1_ec_pubkey_parse(_CONTEXT, self._parsed, point, len(point)):
            raise KeyInvalid("not a point of K-256")

    def verify(self, digest: bytes, sig: bytes) -> bool:
        """See Key. libsecp256k1 itself refuses high-S (S-CRY-04), zero, and what is beyond the order."""
        return (
            len(sig) == SIGNATURE_BYTES
            and len(digest) == 32
            and lib.secp256k1_ecdsa_signature_parse_compact(_CONTEXT, _signature, sig) == 1
            and lib.secp256k1_ecdsa_verify(_CONTEXT, _signature, digest, self._parsed) == 1
        )


class P256Key:
    """A key on secp256r1, parsed by OpenSSL."""

    __slots__ = ("_parsed", "point")
    curve = "P-256"

    def __init__(self, point: bytes) -> None:
        """Parse a point of 33 or 65 bytes.

        Raises:
            KeyInvalid: not on the curve.
        """
        self.point = point
        try:
            self._parsed = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError:
            raise KeyInvalid("not a point of P-256") from None

    def verify(self, digest: bytes, sig: bytes) -> bool:
        """See Key."""
        if len(sig) != SIGNATURE_BYTES or len(digest) != 32:
            return False
        r, s = int.from_bytes(sig[:32], "big"), int.from_bytes(sig[32:], "big")
        # S-CRY-04.
        if not 1 <= r < P256_ORDER or not 1 <= s <= P256_ORDER // 2:
            return False
        try:
            self._parsed.verify(encode_dss_signature(r, s), digest, _PREHASHED)
        except InvalidSignature:
            return False
        return True


def key_of(curve: str, point: bytes) -> Key:
    """A key as `Key.curve` and `Key.point` gave it.

    Raises:
        KeyInvalid: not a point of a curve that we know.
    """
    if curve == "K-256":
        return K256Key(point)
    if curve == "P-256":
        return P256Key(point)
    raise KeyInvalid(f"no curve {curve!r}")


def parse_multikey(text: str) -> Key:
    """A key as `publicKeyMultibase` of a Multikey, or as the body of a did:key, gives it: S-CRY-05.

    Raises:
        KeyInvalid: see there.
    """
    raw = _parse_multibase(text)
    if len(raw) != 35 or raw[2] not in (2, 3):
        raise KeyInvalid("not a codec and a compressed point")
    if raw[:2] == K256_CODEC:
        return K256Key(raw[2:])
    if raw[:2] == P256_CODEC:
        return P256Key(raw[2:])
    raise KeyInvalid("neither K-256 nor P-256")


def parse_legacy_key(text: str, curve: str) -> Key:
    """A key as the verification methods of 2019 give it: the point itself, uncompressed. S-CRY-06.

    Raises:
        KeyInvalid: see there.
    """
    point = _parse_multibase(text)
    if not (len(point) == 65 and point[0] == 4) and not (len(point) == 33 and point[0] in (2, 3)):
        raise KeyInvalid("not a point")
    return K256Key(point) if curve == "K-256" else P256Key(point)


def _parse_multibase(text: str) -> bytes:
    if not text.startswith("z") or len(text) > MAX_KEY_CHARS:
        raise KeyInvalid("not base58btc behind the letter z")
    number = 0
    try:
        for letter in text[1:]:
            number = number * 58 + _BASE58_VALUES[letter]
    except KeyError:
        raise KeyInvalid("not base58btc behind the letter z") from None
    zeros = len(text) - 1 - len(text[1:].lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
