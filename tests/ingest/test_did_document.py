"""What a DID document says, and what makes it worthless."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.did_document import (
    MAX_DOCUMENT_BYTES,
    Broken,
    Identity,
    document_url,
    normal_host,
    parse_document,
)
from tests.common.commits import DID, KEY
from tests.ingest.test_signature import base58

MULTIKEY = base58(b"\xe7\x01" + KEY.public_key.format())
LEGACY = base58(KEY.public_key.format(compressed=False))
P256 = ec.derive_private_key(7, ec.SECP256R1()).public_key()
P256_POINT = P256.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
P256_WHOLE = P256.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
FORMS = {
    "Multikey K-256": ("Multikey", MULTIKEY, KEY.public_key.format()),
    "Multikey P-256": ("Multikey", base58(b"\x80\x24" + P256_POINT), P256_POINT),
    "legacy K-256": (
        "EcdsaSecp256k1VerificationKey2019", LEGACY, KEY.public_key.format(compressed=False),
    ),
    "legacy P-256": ("EcdsaSecp256r1VerificationKey2019", base58(P256_WHOLE), P256_WHOLE),
    "legacy K-256, compressed": (
        "EcdsaSecp256k1VerificationKey2019", base58(KEY.public_key.format()),
        KEY.public_key.format(),
    ),
}  # fmt: skip


def method(**changed: Any) -> dict[str, Any]:
    return {
        "id": f"{DID}#atproto", "type": "Multikey", "controller": DID,
        "publicKeyMultibase": MULTIKEY, **changed,
    }  # fmt: skip


def service(**changed: Any) -> dict[str, Any]:
    return {
        "id": "#atproto_pds", "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": "https://pds.example.com", **changed,
    }  # fmt: skip


def document(**changed: Any) -> bytes:
    return orjson.dumps(
        {"id": DID, "verificationMethod": [method()], "service": [service()], **changed}
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(document(), id="as the directory has it"),
        pytest.param(document(verificationMethod=[method(id="#atproto")]), id="a relative key id"),
        pytest.param(document(service=[service(id=f"{DID}#atproto_pds")]), id="a full service id"),
        pytest.param(
            document(
                verificationMethod=[
                    method(type="EcdsaSecp256k1VerificationKey2019", publicKeyMultibase=LEGACY)
                ]
            ),
            id="a legacy key",
        ),
        pytest.param(
            document(verificationMethod=[method(id="#other"), 5, method(), method(type="x")]),
            id="other keys round it",
        ),
        pytest.param(
            document(
                verificationMethod=[
                    method(id="#atproto", controller="did:plc:" + "a" * 24),
                    method(id="#atproto", type="JsonWebKey2020"),
                    method(id="#atproto"),
                ]
            ),
            id="keys of its name that are not its own before it",
        ),
        pytest.param(
            document(service=[service(type="BskyNotificationService"), service()]),
            id="a service of its name but another type before it",
        ),
        pytest.param(
            document(service=[service(serviceEndpoint="https://pds.example.com.")]),
            id="the host with a dot behind",
        ),
        pytest.param(document(deactivated=False), id="not deactivated"),
        pytest.param(
            document(service=[service(id="#feed"), service(), service(serviceEndpoint="x")]),
            id="other services round it",
        ),
        pytest.param(
            document(service=[service(serviceEndpoint="https://PDS.Example.com:443/")]),
            id="the host written otherwise",
        ),
    ],
)
def test_a_good_document_names_a_key_and_a_host(body: bytes) -> None:
    found = parse_document(body, DID, allow_insecure=False)
    assert isinstance(found, Identity), found
    assert found.host == "pds.example.com"
    assert found.key.curve == "K-256"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key_id", ["#atproto", f"{DID}#atproto"], ids=["short id", "full id"])
@pytest.mark.parametrize(
    "service_id", ["#atproto_pds", f"{DID}#atproto_pds"], ids=["short", "full"]
)
def test_each_form_of_key_and_id_is_read(form: str, key_id: str, service_id: str) -> None:
    kind, text, point = FORMS[form]
    key = method(id=key_id, type=kind, publicKeyMultibase=text)
    body = document(verificationMethod=[key], service=[service(id=service_id)])
    found = parse_document(body, DID, allow_insecure=False)
    assert isinstance(found, Identity), found
    assert found.key.point == point
    assert found.key.curve in form
    # Its own, or nobody's: whatever the form.
    for controller in ("did:plc:" + "a" * 24, "", "#atproto", None):
        other = document(verificationMethod=[{**key, "controller": controller}])
        assert isinstance(parse_document(other, DID, allow_insecure=False), Broken)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(document(id="did:plc:" + "a" * 24), id="about somebody else"),
        pytest.param(document(id=None), id="about nobody"),
        pytest.param(document(verificationMethod=[]), id="no keys"),
        pytest.param(document(verificationMethod=None), id="keys that are null"),
        pytest.param(document(verificationMethod={"a": method()}), id="keys as a map"),
        pytest.param(document(verificationMethod=[method(id="#atproto_label")]), id="other keys"),
        pytest.param(document(verificationMethod=[method(type="Ed25519")]), id="another type"),
        pytest.param(document(verificationMethod=[method(publicKeyMultibase="zzz")]), id="no key"),
        pytest.param(document(verificationMethod=[method(publicKeyMultibase=5)]), id="key number"),
        pytest.param(
            document(verificationMethod=[method(controller="did:plc:" + "a" * 24)]),
            id="another's key",
        ),
        pytest.param(
            document(verificationMethod=[{k: v for k, v in method().items() if k != "controller"}]),
            id="nobody's key",
        ),
        pytest.param(document(deactivated=True), id="deactivated"),
        pytest.param(
            document(verificationMethod=[method(id="did:plc:" + "a" * 24 + "#atproto")]),
            id="a key by another's name",
        ),
        pytest.param(
            document(verificationMethod=[method(publicKeyMultibase=LEGACY)]),
            id="a legacy key under the new type",
        ),
        pytest.param(
            document(
                verificationMethod=[
                    method(type="EcdsaSecp256r1VerificationKey2019", publicKeyMultibase=LEGACY)
                ]
            ),
            id="a legacy key of the other curve",
        ),
        pytest.param(document(service=[]), id="no services"),
        pytest.param(document(service=[service(type="Other")]), id="another service"),
        *(
            pytest.param(document(service=[service(serviceEndpoint=url)]), id=f"endpoint {url!r}")
            for url in (
                "http://pds.example.com", "https://pds.example.com:8443", "pds.example.com", "",
                "https://user@pds.example.com", "https://pds.example.com/path", 5,
                "https://pds.example.com?x", "ftp://pds.example.com", "https://", "https://a b",
                "https://pds.example.com:99999", "https://a\0b.example.com", "\1https://a.example.com",
                "https://pds.example\n.com", "https://a%2eb.com", "https://pds.exämple.com",
                "https://pds.example.com/?", "https://pds.example.com#", "https://" + "a." * 200 + "com",
                "https://-a.example.com", "https://a..example.com",
                # Internal ones: nobody of the public internet is meant.
                "https://10.0.0.1", "https://127.0.0.1", "https://[::1]", "https://169.254.169.254",
                "https://intranet", "https://pds.internal", "https://pds.local", "https://0x7f000001",
            )
        ),
    ],
)  # fmt: skip
def test_a_document_without_either_is_broken(body: bytes) -> None:
    assert isinstance(parse_document(body, DID, allow_insecure=False), Broken)


ODD: list[Any] = [None, True, 0, -1, 1.5, "", "x", "#atproto", [], [[]], {}, {"a": {}}, 10**18]
"""One of each kind of JSON, where something else should be."""


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_any_json_in_any_place_is_a_document_that_says_nothing_or_is_broken(odd: Any) -> None:
    bodies = [orjson.dumps(odd)]
    bodies += [
        document(**{name: value})
        for name in ("id", "verificationMethod", "service", "deactivated")
        for value in (odd, [odd], [odd, odd])
    ]
    bodies += [document(verificationMethod=[method(**{name: odd})]) for name in method()]
    bodies += [document(service=[service(**{name: odd})]) for name in service()]
    good = orjson.loads(document())
    for body in bodies:
        found = parse_document(body, DID, allow_insecure=True)
        if isinstance(found, Identity):
            # Only where the odd one is no odd one there.
            told = orjson.loads(body)
            assert {**told, "deactivated": None} == {**good, "deactivated": None} or (
                odd == "#atproto" and told["verificationMethod"][0]["id"] == odd
            )


@pytest.mark.parametrize("seed", range(20))
def test_a_document_with_any_bytes_changed_is_read_or_is_broken(seed: int) -> None:
    rng = Random(seed)
    whole = document()
    for _ in range(300):
        body = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(body))
            choice = rng.random()
            if choice < 0.5:
                body[at] = rng.randrange(256)
            elif choice < 0.75:
                del body[at : at + rng.randint(1, 20)]
            else:
                body[at:at] = rng.choice(
                    [b"{", b"}", b"[]", b"null", b'"', b",", b"\\u0000", b"1e9"]
                )
            body = body or bytearray(b"x")
        found = parse_document(bytes(body), DID, allow_insecure=bool(seed % 2))
        assert found is None or type(found) in (Identity, Broken)


def test_a_document_nested_a_thousand_times_or_as_large_as_may_be_is_read_at_once() -> None:
    for body in (
        b"[" * MAX_DOCUMENT_BYTES,
        b'{"a":' * 50_000,
        b'{"id":' + b'"' + b"x" * (MAX_DOCUMENT_BYTES - 10) + b'"}',
        document(verificationMethod=[method(id="#x")] * 900 + [method()]),
        document(service=[service(serviceEndpoint="https://" + "a" * 200_000)]),
        document(verificationMethod=[method(publicKeyMultibase="z" + "2" * 200_000)]),
    ):
        began_s = time.process_time()
        parse_document(body, DID, allow_insecure=False)
        assert time.process_time() - began_s < 0.05


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"<html>", b'{"id":', b"\xff"])
def test_what_is_no_json_object_says_nothing(body: bytes) -> None:
    assert parse_document(body, DID, allow_insecure=False) is None


@pytest.mark.parametrize(
    ("did", "url"),
    [
        (DID, f"https://plc.example/{DID}"),
        ("did:web:pds.example.com", "https://pds.example.com/.well-known/did.json"),
    ],
)
def test_a_did_has_one_place(did: str, url: str) -> None:
    assert document_url(did, "https://plc.example", allow_insecure=False) == url


@pytest.mark.parametrize(
    "did",
    ["did:key:z6Mk", "did:web:localhost", "did:web:localhost%3A80", "did:web:a.example.com%3A80",
     "did:web:127.0.0.1", "did:web:10.0.0.1", "did:web:a.internal", "did:web:a.local", "did:web:a",
     "did:web:a.example.com:path", "did:web:A.example.com", "did:web:a_b.example.com",
     "did:web:-a.example.com", "did:web:a..com", "did:web:x.onion", "did:web:a.test"],
)  # fmt: skip
def test_a_did_that_names_no_public_place_is_broken(did: str) -> None:
    assert isinstance(document_url(did, "https://plc.example", allow_insecure=False), Broken)


def test_a_local_did_web_needs_permission() -> None:
    assert (
        document_url("did:web:localhost%3A2583", "x", allow_insecure=True)
        == "http://localhost:2583/.well-known/did.json"
    )
    assert normal_host("http://127.0.0.1:2583", allow_insecure=True) == "127.0.0.1:2583"
    assert normal_host("http://127.0.0.1:2583", allow_insecure=False) is None
    assert normal_host("http://localhost:2583", allow_insecure=False) == "localhost:2583"
    assert normal_host("http://[::1]:80", allow_insecure=True) == "[::1]"
