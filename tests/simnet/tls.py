"""How does a test get wss? A certificate authority of its own, and deliberately bad certificates.

All certificates are for `localhost` and 127.0.0.1 unless the kind says otherwise.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY: Final = dt.timedelta(days=1)


class Certificate(StrEnum):
    """What a host's certificate is like; only GOOD should be accepted."""

    GOOD = "good"
    WRONG_NAME = "wrong_name"
    EXPIRED = "expired"
    SELF_SIGNED = "self_signed"


class Authority:
    """A throw-away CA with its files in `folder`; `ca_file` is what a client must trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simnet test CA")])
        self._certificate = _certificate(
            self._name, self._name, self._key, self._key, days=2, names=None
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def server_context(self, kind: Certificate = Certificate.GOOD) -> ssl.SSLContext:
        """The TLS side of one host."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"simnet {kind}")])
        own = kind is Certificate.SELF_SIGNED
        certificate = _certificate(
            name,
            name if own else self._name,
            key,
            key if own else self._key,
            days=-1 if kind is Certificate.EXPIRED else 2,
            names=["elsewhere.example"] if kind is Certificate.WRONG_NAME else ["localhost"],
            authority=None if own else self._key,
        )
        path = self._folder / f"{kind}.pem"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    days: int,
    names: list[str] | None,
    authority: ec.EllipticCurvePrivateKey | None = None,
) -> x509.Certificate:
    """A certificate that ends in `days` days; `names` None makes it a CA."""
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * _DAY)
        .not_valid_after(now + days * _DAY)
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if authority is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        builder = builder.add_extension(identifier, critical=False)
    is_ca = names is None
    builder = builder.add_extension(
        x509.KeyUsage(
            digital_signature=not is_ca,
            key_cert_sign=is_ca,
            crl_sign=is_ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        ),
        critical=True,
    )
    if names is not None:
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if "localhost" in names:
            alternatives.append(x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")))
        builder = builder.add_extension(
            x509.SubjectAlternativeName(alternatives), critical=False
        ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(signer, hashes.SHA256())
