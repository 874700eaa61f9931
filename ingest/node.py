"""Is this block a node of a Merkle search tree, and may it stand where it stands?

    a2 61 65 <array of n> entry … entry 61 6c <link or null>            {e: [...], l}
    entry: a4 61 6b <suffix> 61 70 <p> 61 74 <link or null> 61 76 <link>   {k, p, t, v}

An entry's bytes stay as they came: one expression finds them all, and proves on the way that each
is laid out as the canonical form wants it. Nothing inside a key can look like what follows it,
since keys are printable ASCII and each `p` begins with a control byte. What an entry becomes when
its neighbour or its subtree changes is made from its bytes too.

Every structural rule is in `load`. This module knows one node and what its parent says of it; how
nodes hang together, and what was done to them, ingest.inversion knows.

Source: the repository spec, "MST Structure"; S-MST-04 to S-MST-10, S-VAL-17, S-VAL-18, S-DAT-04 to
S-DAT-07.
"""

from __future__ import annotations

import re
from hashlib import sha256
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from common.cid import DAG_CBOR_PREFIX, cid_of
from common.verdict import DropReason

MAX_KEY_BYTES: Final = 1024
"""Bytes of a key. A repository path has at most 830; 1,024 is what everybody else bears."""
MAX_ENTRIES: Final = 255
"""Entries in one node (S-VAL-18): a quarter of all keys rises a level, so a node has this many by
chance in one of 10^32 cases. The tree's depth needs no limit of its own: a key's depth is found by
hashing, and costs four times the work a level."""
MAX_ENTRIES_IN_ALL: Final = 12_288
"""Entries in all nodes that come with one commit. 200 operations on ten million records take about
2,000 nodes of 4 or 5 entries; two megabytes could hold 34,000, which cost 35 ms to check. [own]"""
EMPTY_TREE: Final = b"\xa2ae\x80al\xf6"
"""S-MST-09: the one node without entries and without a subtree."""
EMPTY_TREE_CID: Final = cid_of(EMPTY_TREE)

BELOW: Final = b""
ABOVE: Final = b"\xff"
"""What every key lies between."""

_LINK: Final = b"\xd8\x2a\x58\x25\x00"
_NULL: Final = b"\xf6"
_LINK_BYTES: Final = 41
_LEFT: Final = b"al" + _LINK + DAG_CBOR_PREFIX
_LEFT_BYTES: Final = 43
_ROOM: Final = bytes(36)
_VALUE_BYTES: Final = 43
"""Bytes of an entry's `v`, key included: what stands behind its `t`."""
LINK_BEFORE_END: Final = _VALUE_BYTES + 36
"""How far before an entry's end the CID of its `t` begins."""
_SHARED_HEAD: Final = b"ap"

# The longest suffix is the longest that a head with `Y` and 1 to 4 can tell.
# Links to nodes are blessed CIDs (S-DAT-06). Of records any with 32 bytes of hash is borne, and
# kept as it is (S-DAT-07).
_find_entries: Final = re.compile(
    rb"(\xa4ak([@-W]|X[\x18-\xff]|Y[\x01-\x04][\x00-\xff])([!-~]{1,1279})"
    rb"ap([\x00-\x17]|\x18[\x18-\xff]|\x19[\x01-\x04][\x00-\xff])"
    rb"at(?:\xf6|\xd8\x2a\x58\x25\x00(\x01\x71\x12\x20.{32}))"
    rb"av\xd8\x2a\x58\x25\x00\x01..\x20.{32})",
    re.DOTALL,
).findall


def _head(major: int, length: int) -> bytes:
    """A CBOR head in shortest form, for lengths below 65,536."""
    if length < 24:
        return bytes([major | length])
    if length < 256:
        return bytes([major | 24, length])
    return bytes([major | 25]) + length.to_bytes(2, "big")


_SUFFIX_HEADS: Final = [_head(0x40, length) for length in range(1280)]
_SHARED: Final = {_head(0x00, length): length for length in range(1280)}
_SHARED_HEADS: Final = list(_SHARED)
_COUNT_HEADS: Final = [_head(0x80, length) for length in range(1 << 16)]

# A key of depth d has 2 d or 2 d + 1 leading zero bits in its hash (S-MST-04).
_LEAST: Final = [(1 << (254 - 2 * d)).to_bytes(32, "big") for d in range(128)]
_MOST: Final = [((1 << (256 - 2 * d)) - 1).to_bytes(32, "big") for d in range(128)]


class BadTree(NamedTuple):
    """Why a tree, or the operations told of it, cannot be true."""

    reason: DropReason
    detail: str


class Node:
    """One node. Left alone once it was made: a change makes another one.

    level: the depth of its keys. keys: in full. links[i]: the subtree before keys[i], the last one
    behind all: its CID, or nothing (b""). raw: its bytes; the entry of keys[i] is
    raw[bounds[i] : bounds[i + 1]].
    cid: None until ingest.tree has hashed it; till then a link may be a node too, for whose CID
    there is only room in `raw`.
    """

    __slots__ = ("bounds", "cid", "keys", "level", "links", "raw")

    def __init__(
        self,
        cid: bytes | None,
        level: int,
        keys: list[bytes],
        links: list[bytes | Node],
        raw: bytes,
        bounds: list[int],
    ) -> None:
        self.cid = cid
        self.level = level
        self.keys = keys
        self.links = links
        self.raw = raw
        self.bounds = bounds

    def entries(self) -> list[bytes]:
        """The bytes of each entry."""
        raw = self.raw
        return [raw[start:end] for start, end in pairwise(self.bounds)]

    def value(self, i: int) -> bytes:
        """The CID of the record at keys[i]."""
        end = self.bounds[i + 1]
        return self.raw[end - 36 : end]

    def link_at(self, i: int) -> int:
        """Where in `raw` the CID of links[i] stands, if it is not null."""
        return self.bounds[i] - LINK_BEFORE_END if i else len(self.raw) - 36


def depth_of(key: bytes) -> int:
    """The level that a key belongs to (S-MST-04): the leading zero bits of its hash, in pairs."""
    number = int.from_bytes(sha256(key).digest(), "big")
    return min((256 - number.bit_length()) // 2, 127)


def load(raw: bytes, cid: bytes, level: int | None, low: bytes, high: bytes) -> Node | BadTree:
    """Read one node and hold it against every rule of its own and of its place.

    Args:
        cid: its name; that `raw` hashes to it was seen before.
        level: what the parent wants; None for a root, whose own keys tell.
        low, high: between these all its keys lie; see BELOW and ABOVE.
    """
    # S-MST-05: exactly `e` and `l`, and of each entry exactly `k`, `p`, `t` and `v`.
    if raw[:3] != b"\xa2ae" or len(raw) < len(EMPTY_TREE):
        return _malformed("no map of e and l")
    start, count = 4, raw[3] - 0x80
    if count == 0x18 and raw[4] >= 24:
        start, count = 5, raw[4]
    elif not 0 <= count < 24:
        # S-VAL-18: a count of two bytes is beyond MAX_ENTRIES.
        return _malformed("no array of at most 255 entries")
    # The bytes before a null `l` are a record's link, which begins otherwise.
    if raw[-_LEFT_BYTES : len(_LEFT) - _LEFT_BYTES] == _LEFT:
        end, left = len(raw) - _LEFT_BYTES, raw[-36:]
    elif raw.endswith(b"al\xf6"):
        end, left = len(raw) - 3, b""
    else:
        return _malformed("l is neither null nor a dag-cbor link")
    if not count:
        if start != end:
            return _malformed("bytes between e and l")
        return _load_empty(raw, cid, level, left)
    found = _find_entries(raw, start, end)
    if len(found) != count:
        return _malformed(f"{len(found)} well-formed entries of {count}")
    if level is None:
        # Whole: or else the first entry is refused below.
        level = depth_of(found[0][2])
    least, most = _LEAST[level], _MOST[level]
    key, keys, bounds = b"", [], [start]
    links: list[bytes | Node] = [left]
    for entry, head, suffix, shared, right in found:
        # S-MST-06, S-MST-07: keys ascend, and share all they can with the one before.
        n = _SHARED[shared]
        if n < len(key):
            if suffix[0] <= key[n]:
                return _malformed("keys do not ascend, or share more than they say")
        elif n > len(key):
            return _malformed("an entry shares what is not there")
        if _SUFFIX_HEADS[len(suffix)] != head:
            return _malformed("a suffix is not as long as it says")
        key = key[:n] + suffix
        # S-MST-04, S-MST-07, S-VAL-17: all keys have the depth of their level.
        if not least <= sha256(key).digest() <= most:
            return BadTree(DropReason.TREE_MALFORMED, "a key is not of its level's depth")
        keys.append(key)
        links.append(right)
        start += len(entry)
        bounds.append(start)
    if start != end:
        return _malformed("bytes between entries")
    if len(raw) > MAX_KEY_BYTES and max(map(len, keys)) > MAX_KEY_BYTES:
        return _malformed(f"a key of more than {MAX_KEY_BYTES} bytes")
    # S-MST-07: all keys lie where the parent's keys leave room for them.
    if keys[0] <= low or key >= high:
        return BadTree(DropReason.TREE_MALFORMED, "a key lies outside of its subtree")
    if not level and any(links):
        return BadTree(DropReason.TREE_MALFORMED, "a subtree at the bottom")
    return Node(cid, level, keys, links, raw, bounds)


def _load_empty(raw: bytes, cid: bytes, level: int | None, left: bytes) -> Node | BadTree:
    """S-MST-10: without entries only as the empty tree, or between a root and what it leads to."""
    if level is None:
        if raw != EMPTY_TREE:
            return BadTree(DropReason.TREE_MALFORMED, "a root without entries")
        return Node(cid, 0, [], [b""], raw, [4])
    if not left:
        return BadTree(DropReason.TREE_MALFORMED, "an empty node that leads nowhere")
    if level == 0:
        return BadTree(DropReason.TREE_MALFORMED, "a subtree at the bottom")
    return Node(cid, level, [], [left], raw, [4])


def _malformed(detail: str) -> BadTree:
    return BadTree(DropReason.NODE_MALFORMED, detail)


# --- what an entry's bytes become ---


def common_prefix(left: bytes, right: bytes) -> int:
    """How many leading bytes two keys share."""
    length = min(len(left), len(right))
    differing = int.from_bytes(left[:length], "big") ^ int.from_bytes(right[:length], "big")
    return length - (differing.bit_length() + 7) // 8


def new_entry(key: bytes, shared: int, value: bytes) -> bytes:
    """An entry without a subtree behind it."""
    return b"%b%b%b%b" % (
        _front(key, shared), b"at" + _NULL, b"av" + _LINK, value,
    )  # fmt: skip


def with_shared(entry: bytes, key: bytes, shared: int, right: object) -> bytes:
    """The same entry behind another key. right: its link, of which only counts whether it is."""
    rest = 2 + _VALUE_BYTES + (_LINK_BYTES if right else 1)
    return _front(key, shared) + entry[-rest:]


def with_right(entry: bytes, before: object, right: bytes) -> bytes:
    """The same entry with another subtree behind it.

    before: the link that stands there, of which only counts whether it is. right: b"" for none.
    """
    cut = _VALUE_BYTES + (_LINK_BYTES if before else 1)
    return entry[:-cut] + (_LINK + right if right else _NULL) + entry[-_VALUE_BYTES:]


def is_record_cid(cid: bytes) -> bool:
    """Whether a CID is one that an entry can hold: version 1, with 32 bytes of hash."""
    return len(cid) == 36 and cid[0] == 1 and cid[3] == 32


def shared_by(entry: bytes, key: bytes) -> int:
    """How many bytes of its key an entry takes from the key before."""
    first = entry[3]
    if first < 0x58:
        return len(key) - (first - 0x40)
    if first == 0x58:
        return len(key) - entry[4]
    return len(key) - (entry[4] << 8 | entry[5])


def new_node(
    level: int, keys: list[bytes], entries: list[bytes], links: list[bytes | Node]
) -> Node:
    """A node made of entries; for links to nodes that have no CID yet, there is room in both."""
    left = links[0]
    raw = b"\xa2ae%b%bal%b" % (
        head := _COUNT_HEADS[len(entries)],
        b"".join(entries),
        _LINK + room_for(left) if left else _NULL,
    )
    bounds = list(accumulate(map(len, entries), initial=3 + len(head)))
    return Node(None, level, keys, links, raw, bounds)


def room_for(link: bytes | Node) -> bytes:
    """A link's CID, or room for that of a node that has none yet."""
    return link if isinstance(link, bytes) else _ROOM


def _front(key: bytes, shared: int) -> bytes:
    """An entry's bytes before its `t`."""
    suffix = key[shared:]
    return b"\xa4ak%b%bap%b" % (_SUFFIX_HEADS[len(suffix)], suffix, _SHARED_HEADS[shared])
