"""broadcast.crawl: which names are refused and why, and what a host's own words come to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast import crawl
from broadcast import crawl_answers as answers
from broadcast.crawl import Facts, Rules, parse_body, parse_host
from broadcast.crawl_answers import Described, Known, Outcome
from broadcast.xrpc import XrpcError
from common.addresses import is_public_name
from common.target import Target
from tests.relay import ROOT

T = TypeVar("T")
NAMES: Final = (
    pytest.param("", "missing", id="none"),
    pytest.param("127.0.0.1", "public internet", id="an address"),
    pytest.param("93.184.216.34", "public internet", id="an address of the internet"),
    pytest.param("[::1]", "public internet", id="an address of six"),
    pytest.param("https://[2606:2800:220::1]", "public internet", id="an address in a URL"),
    pytest.param("2130706433", "public internet", id="an address as a number"),
    pytest.param("0x7f000001", "public internet", id="an address in hex"),
    pytest.param("127.1", "public internet", id="an address cut short"),
    pytest.param("pds.brightworld.dev:8443", "port", id="a port"),
    pytest.param("https://pds.brightworld.dev:80", "port", id="another scheme's port"),
    pytest.param("https://pds.brightworld.dev:99999", "range", id="no port at all"),
    pytest.param("https://pds.brightworld.dev/xrpc/", "more than a host", id="a path"),
    pytest.param("pds.brightworld.dev/..", "more than a host", id="a path behind a name"),
    pytest.param("https://pds.brightworld.dev?x=1", "more than a host", id="a query"),
    pytest.param("https://pds.brightworld.dev#x", "more than a host", id="a fragment"),
    pytest.param("https://user:word@pds.brightworld.dev", "more than a host", id="userinfo"),
    pytest.param("http://pds.brightworld.dev", "not https", id="no TLS"),
    pytest.param("ws://pds.brightworld.dev", "not https", id="no TLS, of a socket"),
    pytest.param("ftp://pds.brightworld.dev", "names no host", id="another scheme"),
    pytest.param("file:///etc/passwd", "names no host", id="a file"),
    pytest.param("pds", "public internet", id="one label"),
    pytest.param("localhost", "localhost", id="ours"),
    pytest.param("localhost:2583", "localhost", id="ours, with a port"),
    pytest.param("https://localhost", "localhost", id="ours, as a URL"),
    pytest.param("pds.local", "public internet", id="of a home"),
    pytest.param("metadata.google.internal", "public internet", id="of a cloud"),
    pytest.param("a..brightworld.dev", "public internet", id="an empty label"),
    pytest.param("-a.brightworld.dev", "public internet", id="a hyphen first"),
    pytest.param("a_b.brightworld.dev", "public internet", id="an underscore"),
    pytest.param("x" * 64 + ".dev", "public internet", id="a long label"),
    pytest.param("a." * 140 + "dev", "public internet", id="a long name"),
    pytest.param("a" * 5000, "no host name", id="an endless name"),
    pytest.param("pds.bright world.dev", "no host name", id="a space"),
    pytest.param("pds.brightworld.dev\r\nX: y", "no host name", id="a line of its own"),
    pytest.param("pds.brightworld.dev\u0000", "no host name", id="a nul"),
    pytest.param("pd\u0455.brightworld.dev", "no host name", id="a letter that looks alike"),
)
BAD_NAMES: Final = [(str(param.values[0]), str(param.values[1])) for param in NAMES]
BAD_BODIES: Final = [
    b"", b"{", b"[]", b"null", b"{}", b'{"hostname":7}', b'{"Hostname":"pds.brightworld.dev"}',
    b'{"hostname":null}', b"\xff", b'"pds.brightworld.dev"', b'{"hostname":["a"]}',
]  # fmt: skip
PDS: Final = "pds.brightworld.dev"
SCALARS: Final = st.one_of(
    st.none(), st.integers(), st.text(), st.sampled_from(["did:web:a%00b.c", "did:plc:x", PDS])
)


def attempt(call: Callable[[], T]) -> T | XrpcError:
    """What it gives, or how it refuses."""
    try:
        return call()
    except XrpcError as error:
        return error


def known(**changes: Any) -> Known:
    return Known(
        PDS, "active", "idle", connected=False, last_error=None, next_dial_s=None, alias_of=None
    )._replace(**changes)


def facts(host: Known | None = None, **changes: Any) -> Facts:
    return Facts(host, None, None, None)._replace(**changes)


@pytest.mark.parametrize(("name", "words"), NAMES)
def test_a_name_that_may_not_be_read_is_refused_with_a_sentence(name: str, words: str) -> None:
    with pytest.raises(XrpcError) as caught:
        parse_host(parse_body(json.dumps({"hostname": name}).encode()), allow_insecure=False)
    assert (caught.value.status, caught.value.error) == (400, "InvalidRequest")
    assert words in caught.value.message
    assert len(caught.value.message) < 500


def test_every_outcome_is_in_the_page_for_operators() -> None:
    page = (ROOT / "docs/request-crawl.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| \d{3}", page, re.MULTILINE)
    assert rows == [outcome.value for outcome in Outcome]


@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_body_of_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises(XrpcError):
        parse_body(body)


@pytest.mark.parametrize(
    "text",
    [PDS, "PDS.BrightWorld.dev", f"{PDS}.", f"https://{PDS}", f"https://{PDS}/", f"wss://{PDS}",
     f"HTTPS://{PDS}:443", f"{PDS}:443"],
)  # fmt: skip
def test_a_host_has_one_name_however_it_is_written(text: str) -> None:
    body = json.dumps({"hostname": text, "more": 1}).encode()
    assert parse_host(parse_body(body), allow_insecure=False) == Target(PDS, tls=True)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("localhost:2583", Target("localhost:2583", tls=False)),
        ("localhost", Target("localhost", tls=False)),
        ("http://localhost:2583/", Target("localhost:2583", tls=False)),
        ("https://localhost:2583", Target("localhost:2583", tls=True)),
        ("http://127.0.0.1:2583", Target("127.0.0.1:2583", tls=False)),
        ("ws://pds.test:80", Target("pds.test", tls=False)),
        ("pds.test", Target("pds.test", tls=True)),
    ],
)
def test_who_allows_it_may_name_hosts_of_his_own(text: str, target: Target) -> None:
    assert parse_host(text, allow_insecure=True) == target
    is_local = target.address[0] == "localhost"
    for_operator = {"allow_insecure": False, "operator": True}
    if is_local:
        assert parse_host(text, **for_operator) == target
    else:
        with pytest.raises(XrpcError):
            parse_host(text, **for_operator)
    with pytest.raises(XrpcError):
        parse_host(text, allow_insecure=False)


def test_what_is_known_is_said_in_this_order() -> None:
    assert crawl.answer_from(facts(), PDS) is None
    assert crawl.answer_from(facts(known()), PDS) is None
    connected = crawl.answer_from(facts(known(connected=True)), PDS)
    assert connected is not None
    assert connected.outcome is Outcome.CONNECTED
    for banned in (
        facts(known(connected=True, wanted="banned")),
        facts(known(connected=True), banned_domain="brightworld.dev"),
        facts(banned_domain="dev"),
    ):
        answer = crawl.answer_from(banned, PDS)
        assert answer is not None
        assert (answer.status, answer.body["error"]) == (403, "HostBanned")


def test_another_name_of_a_host_is_looked_at_again() -> None:
    assert crawl.is_alias(facts(known(alias_of="pds.example.com")))
    assert not crawl.is_alias(facts(known()))
    assert not crawl.is_alias(facts())


def test_the_operators_word_counts_before_the_setting() -> None:
    rules = Rules(is_open=True, per_day=5)
    assert crawl.is_open(facts(), rules)
    assert not crawl.is_open(facts(is_open="false"), rules)
    assert crawl.is_open(facts(is_open="true"), rules._replace(is_open=False))
    assert crawl.is_open(facts(is_open="perhaps"), rules)
    assert crawl.per_day(facts(), rules) == 5
    assert crawl.per_day(facts(per_day="0"), rules) == 0
    assert crawl.per_day(facts(per_day="-1"), rules) == 5


def test_a_host_that_waits_is_told_what_happened_and_what_will() -> None:
    host = known(
        observed="offline", last_error="OSError: no route", next_dial_s=71.6, alias_of="a.b"
    )
    said = answers.waiting(host)
    assert said.status == 200
    assert said.body["status"] == "offline"
    assert "in 72 s" in said.body["message"]
    assert "OSError: no route" in said.body["message"]


@pytest.mark.parametrize(
    ("did", "canonical"),
    [
        (f"did:web:{PDS}", None),
        ("did:web:PDS.brightworld.dev", None),
        ("did:web:other.brightworld.dev", "other.brightworld.dev"),
        ("did:web:localhost%3A2583", "localhost:2583"),
        ("did:web:other.brightworld.dev%3A443", "other.brightworld.dev"),
        ("did:web:other%00.dev", None),
        ("did:web:other.dev%2Fpath", None),
        ("did:web:" + "a." * 200 + "dev", None),
        ("did:plc:ewvi7nxzyoun6zhxrhs64oiz", None),
    ],
)
def test_a_pds_says_which_host_it_is(did: str, canonical: str | None) -> None:
    body = json.dumps({"did": did}).encode()
    assert crawl.described(PDS, 200, "nginx", body) == Described(did, canonical)


@pytest.mark.parametrize(
    ("status", "body", "lists"),
    [
        (200, b'{"hosts":[]}', True),
        (200, b'{"cursor":"1","hosts":[{}]}', True),
        (200, b'{"hosts":{}}', False),
        (200, b"[]", False),
        (200, b"<html>", False),
        (501, b'{"hosts":[]}', False),
    ],
)
def test_who_lists_hosts_is_a_relay(status: int, body: bytes, lists: bool) -> None:
    assert crawl.lists_hosts(status, body) is lists


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (None, set()), ("", set()), ("Relay.Example.", {"relay.example"}),
        ("relay.example:443", {"relay.example"}), ("localhost:2470", {"localhost:2470"}),
    ],
)  # fmt: skip
def test_we_are_who_we_are_called(header: str | None, names: set[str]) -> None:
    assert crawl.own_names(header) == names


@given(
    st.one_of(
        st.text(), st.from_regex(r"(https?://|wss?://)?[a-z0-9.:@/\[\]#?%_-]{0,40}", fullmatch=True)
    )
)
def test_whatever_is_named_is_refused_or_a_host_of_the_internet(text: str) -> None:
    found = attempt(lambda: parse_host(text, allow_insecure=False))
    if isinstance(found, XrpcError):
        assert (found.status, found.error) == (400, "InvalidRequest")
    else:
        assert found.tls
        assert is_public_name(found.hostname)
        assert found.address == (found.hostname, 443)


@given(
    st.one_of(
        st.binary(),
        st.recursive(
            SCALARS,
            lambda kind: (
                st.lists(kind)
                | st.dictionaries(st.sampled_from(["did", "hosts", "hostname", "x"]), kind)
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_is_answered_is_read_or_refused(body: bytes) -> None:
    found = crawl.described(PDS, 200, "", body)
    assert isinstance(found, Described) or found.outcome is Outcome.NOT_FOUND
    assert crawl.lists_hosts(200, body) in (True, False)
    text = attempt(lambda: parse_body(body))
    assert text.status == 400 if isinstance(text, XrpcError) else text
