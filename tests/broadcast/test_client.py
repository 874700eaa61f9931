"""broadcast.client: which address counts, whatever is written in front of it."""

from __future__ import annotations

import pytest

from broadcast.client import Clients, site

PROXIES = ("127.0.0.1", "10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        pytest.param("192.0.2.7", [], "192.0.2.7", id="nobody stands between"),
        pytest.param("192.0.2.7", ["198.51.100.1"], "192.0.2.7", id="a stranger's word is none"),
        pytest.param("127.0.0.1", ["198.51.100.1"], "198.51.100.1", id="a trusted proxy's word"),
        pytest.param(
            "127.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1",
            id="what a client writes in front of it says nothing",
        ),
        pytest.param(
            "127.0.0.1", ["203.0.113.9", "198.51.100.1, 10.1.2.3"], "198.51.100.1",
            id="two proxies and two headers",
        ),
        pytest.param("127.0.0.1", ["10.0.0.1, 10.0.0.2"], "10.0.0.1", id="all are trusted"),
        pytest.param("127.0.0.1", ["198.51.100.1, nonsense"], "127.0.0.1", id="no address"),
        pytest.param("127.0.0.1", [""], "127.0.0.1", id="an empty header"),
        pytest.param("127.0.0.1", ["198.51.100.1:4711"], "198.51.100.1", id="with a port"),
        pytest.param("127.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1", id="in brackets"),
        pytest.param("::ffff:127.0.0.1", ["198.51.100.1"], "198.51.100.1", id="IPv4 in IPv6"),
        pytest.param("fd00::1%eth0", ["2001:db8::1"], "2001:db8::1", id="with a zone"),
        pytest.param(None, ["198.51.100.1"], "unknown", id="no socket"),
        pytest.param(
            "127.0.0.1", [",".join(["198.51.100.1"] + ["10.0.0.1"] * 40)], "10.0.0.1",
            id="more proxies than there are",
        ),
    ],
)  # fmt: skip
def test_the_nearest_address_that_is_not_trusted_counts(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert Clients(PROXIES).address(peer, forwarded) == address


def test_without_trusted_proxies_the_socket_counts() -> None:
    assert Clients(()).address("127.0.0.1", ["198.51.100.1"]) == "127.0.0.1"


def test_a_limit_counts_a_customers_part_of_ipv6_as_one() -> None:
    assert site("2001:db8:1:2:aaaa::1") == site("2001:db8:1:2:bbbb::2")
    assert site("2001:db8:1:2::1") != site("2001:db8:1:3::1")
    assert site("192.0.2.7") == "192.0.2.7"
    assert site("unknown") == "unknown"


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        pytest.param("8.8.8.8", "8.8.8.8", id="a stranger"),
        pytest.param("2a00:1450::1", "2a00:1450::/64", id="a customer's part of IPv6"),
        pytest.param("1.1.1.7", None, id="a trusted proxy, which may be many"),
        pytest.param("127.0.0.1", None, id="this machine"),
        pytest.param("192.168.1.4", None, id="our own network: a proxy that nobody has named"),
        pytest.param("unknown", None, id="no socket"),
    ],
)
def test_a_bound_on_one_counts_who_can_be_no_more_than_one(
    address: str, counted_as: str | None
) -> None:
    assert Clients(("1.1.1.0/24",)).counted_as(address) == counted_as
