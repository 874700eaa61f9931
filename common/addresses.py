"""May this relay open a connection to that address? May it ask for the addresses of that name?

Whatever a stranger names (a did:web, a redirect, a host) could point into our own network; so the
address is checked after DNS, and the checked one is connected to (common/names.py).

Source: S-SEC-01, S-SEC-02; RFC 6890.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

_CLOSED: Final = tuple(
    IPv4Network(net)
    for net in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_OPEN_V6: Final = IPv6Network("2000::/3")
_CLOSED_V6: Final = tuple(
    IPv6Network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
"""Within 2000::/3: special purposes and Teredo, documentation, 6to4 (which can hold any IPv4)."""


def is_public(address: str) -> bool:
    """Whether an IP address, as text, is one of the public internet."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if ip.version == 4:
        return not any(ip in net for net in _CLOSED)
    return ip in _OPEN_V6 and not any(ip in net for net in _CLOSED_V6)


def is_address(host: str) -> bool:
    """Whether `host` is an IP address and not a name."""
    try:
        ip_network(host.strip("[]"))
    except ValueError:
        return False
    return True


_RESERVED: Final = frozenset(
    ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"]
)
"""Last labels of names that are nobody's. Source: RFC 6761, RFC 6762, RFC 7686, RFC 9476; ICANN on .internal."""


def is_public_name(name: str) -> bool:
    """Whether `name`, in lower case, is one that a host of the public internet may have."""
    labels = name.split(".")
    return (
        len(name) <= 253
        and len(labels) > 1
        and labels[-1] not in _RESERVED
        and not labels[-1].isdecimal()
        and all(
            0 < len(label) < 64
            and label.isascii()
            and label.replace("-", "a").isalnum()
            and label[0] != "-"
            and label[-1] != "-"
            for label in labels
        )
    )
