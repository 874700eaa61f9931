"""What does a block say, read slowly and by another library? The fuzzer's contradiction."""

from __future__ import annotations

from typing import Any

import cbor2

from tests.fuzz.hunt import Wrong
from tests.simnet.mst import common_prefix, depth_of


def same_bytes(raw: bytes) -> Any:
    """What cbor2 reads; it must write the very bytes again.

    Raises:
        Wrong: they are not canonical, or no DRISL.
    """
    try:
        value = cbor2.loads(raw)
        again = cbor2.dumps(value, canonical=True)
    except Exception as error:
        raise Wrong(f"cbor2 cannot read it: {error}") from error
    if again != raw:
        raise Wrong("cbor2 writes it otherwise")
    _check_drisl(value)
    return value


def _check_drisl(value: Any) -> None:
    """Raises Wrong for what canonical CBOR has and DRISL has not."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if not all(type(key) is str for key in value):
                raise Wrong("a key that is no text")
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, cbor2.CBORTag):
            if value.tag != 42 or type(value.value) is not bytes or value.value[:1] != b"\0":
                raise Wrong(f"tag {value.tag}")
        elif value is not None and type(value) not in (bool, int, str, bytes):
            raise Wrong(f"a {type(value).__name__}")


def check_node(
    raw: bytes, level: int, *, root: bool = False
) -> tuple[list[bytes], list[bytes | None]]:
    """A tree node's keys and links, after all the rules of the repository spec.

    Raises:
        Wrong: it breaks one.
    """
    node = same_bytes(raw)
    if type(node) is not dict or set(node) != {"e", "l"} or type(node["e"]) is not list:
        raise Wrong("no map of e and l")
    keys: list[bytes] = []
    links = [_link(node["l"])]
    for entry in node["e"]:
        if type(entry) is not dict or set(entry) != {"k", "p", "t", "v"}:
            raise Wrong("no entry")
        p, k = entry["p"], entry["k"]
        if (
            type(p) is not int
            or type(k) is not bytes
            or not 0 <= p <= (len(keys[-1]) if keys else 0)
        ):
            raise Wrong("a wrong prefix")
        key = (keys[-1][:p] if keys else b"") + k
        if keys and (key <= keys[-1] or common_prefix(keys[-1], key) != p):
            raise Wrong("out of order, or a prefix that is not maximal")
        if depth_of(key) != level:
            raise Wrong("a key of another depth")
        if _link(entry["v"], any_codec=True) is None:
            raise Wrong("no value")
        keys.append(key)
        links.append(_link(entry["t"]))
    if not keys and root and (links[0] is not None or level != 0):
        raise Wrong("a root without entries")
    if not keys and not root and links[0] is None:
        raise Wrong("an empty node")
    if level == 0 and any(links):
        raise Wrong("a subtree at the bottom")
    return keys, links


def _link(value: Any, *, any_codec: bool = False) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, cbor2.CBORTag) or len(value.value) != 37:
        raise Wrong("no link")
    cid: bytes = value.value[1:]
    if not any_codec and cid[:4] != b"\x01\x71\x12\x20":
        raise Wrong("a link to something else than dag-cbor")
    return cid


def check_tree(blocks: dict[bytes, bytes], data: bytes) -> dict[bytes, bytes]:
    """All keys of the part of a tree that came, each with its value's node; all rules kept.

    Raises:
        Wrong: a node that came is none, or does not belong where it is.
    """
    found: dict[bytes, bytes] = {}
    root = same_bytes(blocks[data])
    first = root["e"][0]["k"] if root["e"] else None
    waiting = [(data, 0 if first is None else depth_of(first), b"", b"\xff", True)]
    seen: set[bytes] = set()
    while waiting:
        cid, level, low, high, is_root = waiting.pop()
        if cid in seen:
            raise Wrong("a node that stands in two places")
        seen.add(cid)
        if cid not in blocks:
            continue
        if level < 0:
            raise Wrong("a node below the bottom")
        keys, links = check_node(blocks[cid], level, root=is_root)
        if keys and not low < keys[0] <= keys[-1] < high:
            raise Wrong("a key outside of its interval")
        bounds = [low, *keys, high]
        for i, link in enumerate(links):
            if link is not None:
                waiting.append((link, level - 1, bounds[i], bounds[i + 1], False))
        found.update(dict.fromkeys(keys, cid))
    return found
