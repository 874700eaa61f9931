"""From which address does a request come, when proxies may stand between?

    socket's peer ◀─ proxy ◀─ proxy ◀─ client          X-Forwarded-For: client, proxy, proxy

Each proxy appends whom it heard. So the list is walked from its end, and only as far as trusted
proxies have written it: the nearest address that is none of theirs counts. What stands before it was
written by a stranger, and says nothing.

This module does not know sockets.

Source: lessons §1, forged forwarding headers; MDN, X-Forwarded-For, "Selecting an IP address".
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from common.addresses import is_public

_HOPS_MAX: Final = 32
"""Entries that are looked at; no chain of proxies is longer."""
_IPV6_SITE_BITS: Final = 64
"""What one customer has of IPv6 at least. Source: RFC 6177."""

Address = IPv4Address | IPv6Address


class Clients:
    """Tells addresses, knowing which proxies are trusted."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        """Args: trusted_proxies: addresses or networks."""
        self._trusted = tuple(ip_network(network, strict=False) for network in trusted_proxies)

    def address(self, peer: str | None, forwarded_for: Sequence[str]) -> str:
        """The client's address; "unknown" where the socket has none.

        Args:
            peer: the other end of the socket. forwarded_for: the X-Forwarded-For headers, in order.
        """
        nearest = _parse(peer or "")
        if nearest is None:
            return "unknown"
        entries = [entry for header in forwarded_for for entry in header.split(",")]
        for entry in reversed(entries[-_HOPS_MAX:]):
            if not self._is_trusted(nearest):
                break
            before = _parse(entry)
            if before is None:
                break
            nearest = before
        return str(nearest)

    def counted_as(self, address: str) -> str | None:
        """Whom a bound on one counts an address as.

        None where many may stand behind it: a trusted proxy, or our own network, where a proxy may be
        that nobody has named.
        """
        found = _parse(address)
        if found is None or self._is_trusted(found) or not is_public(str(found)):
            return None
        return site(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def site(address: str) -> str:
    """Whom a limit counts as one: an IPv4 address, or a customer's part of IPv6."""
    found = _parse(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, _IPV6_SITE_BITS), strict=False))
    return address


def _parse(text: str) -> Address | None:
    """An address, without the port and the zone that it may have."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
