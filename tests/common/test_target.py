"""How hosts are named."""

from __future__ import annotations

import pytest

from common.target import BadTarget, Target, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("pds.example.com", Target("pds.example.com", tls=True)),
        ("PDS.Example.com.", Target("pds.example.com", tls=True)),
        ("https://pds.example.com", Target("pds.example.com", tls=True)),
        ("wss://pds.example.com:443/", Target("pds.example.com", tls=True)),
        ("http://localhost:2583", Target("localhost:2583", tls=False)),
        ("https://localhost:2583", Target("localhost:2583", tls=True)),
    ],
)
def test_a_host_has_one_name(text: str, target: Target) -> None:
    assert parse_target(text, allow_insecure=False) == target


@pytest.mark.parametrize(
    "text",
    ["", "http://pds.example.com", "https://pds.example.com:8443", "https://127.0.0.1",
     "http://127.0.0.1:2583", "https://[::1]", "ftp://pds.example.com", "https://a.example/path",
     "https://a.example?x=1", "https://user@a.example", "pds", "https://a.example:99999",
     "https://"],
)  # fmt: skip
def test_a_stranger_may_not_name_these(text: str) -> None:
    with pytest.raises(BadTarget):
        parse_target(text, allow_insecure=False)


def test_an_operator_who_allows_it_may() -> None:
    assert parse_target("http://127.0.0.1:2583", allow_insecure=True) == Target(
        "127.0.0.1:2583", tls=False
    )
    assert parse_target("ws://[::1]:80", allow_insecure=True).hostname == "[::1]"


def test_a_target_says_where_its_stream_is() -> None:
    target = Target("localhost:2583", tls=False)
    path = "/xrpc/com.atproto.sync.subscribeRepos"
    assert target.stream_uri(None) == f"ws://localhost:2583{path}"
    assert target.stream_uri(7) == f"ws://localhost:2583{path}?cursor=7"
    assert target.address == ("localhost", 2583)
    assert Target("a.example", tls=True).address == ("a.example", 443)
    assert Target("a.example", tls=False).address == ("a.example", 80)
