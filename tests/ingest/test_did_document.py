"""What a DID document says, and what makes it worthless."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingest.did_document import Broken, Identity, document_url, normal_host, parse_document
from tests.common.commits import DID, KEY
from tests.ingest.test_signature import base58

MULTIKEY = base58(b"\xe7\x01" + KEY.public_key.format())
LEGACY = base58(KEY.public_key.format(compressed=False))


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
        pytest.param(document(service=[]), id="no services"),
        pytest.param(document(service=[service(type="Other")]), id="another service"),
        *(
            pytest.param(document(service=[service(serviceEndpoint=url)]), id=f"endpoint {url!r}")
            for url in (
                "http://pds.example.com", "https://pds.example.com:8443", "pds.example.com", "",
                "https://user@pds.example.com", "https://pds.example.com/path", 5,
                "https://pds.example.com?x", "ftp://pds.example.com", "https://", "https://a b",
                "https://pds.example.com:99999",
            )
        ),
    ],
)  # fmt: skip
def test_a_document_without_either_is_broken(body: bytes) -> None:
    assert isinstance(parse_document(body, DID, allow_insecure=False), Broken)


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
