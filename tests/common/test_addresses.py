"""Addresses that a stranger may name, and those he may not."""

from __future__ import annotations

import pytest

from common.addresses import is_address, is_public, is_public_name


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254",
     "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1",
     "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1",
     "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "fe80::1", "fe80::1%eth0",
     "fc00::1", "fd12::1", "ff02::1", "64:ff9b::7f00:1", "2001:db8::1", "2002:7f00:1::",
     "2001::1", "localhost", "", "1", "127.1"],
)  # fmt: skip
def test_our_own_networks_are_closed(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"]
)
def test_the_internet_is_open(address: str) -> None:
    assert is_public(address)


def test_an_address_is_no_name() -> None:
    assert is_address("127.0.0.1")
    assert is_address("[::1]")
    assert not is_address("pds.example")


@pytest.mark.parametrize("name", ["pds.brightworld.dev", "a.b", "xn--80ak6aa92e.com", "9.gg"])
def test_a_name_of_the_internet_may_be_asked_for(name: str) -> None:
    assert is_public_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "localhost", "pds", "pds.local", "pds.internal", "pds.test", "pds.example", "x.onion",
     "1.2.3.4", "10.1", "a..b", "-a.com", "a-.com", "a_b.com", "ümlaut.de", "a.com.",
     "x" * 64 + ".com", ".".join(["a" * 49] * 6) + ".com"],
)  # fmt: skip
def test_a_name_that_is_nobodys_is_not(name: str) -> None:
    assert not is_public_name(name)
