"""How is one input made into another that nobody has thought of? Bytes, CBOR items, whole blocks.

Everything comes from the random generator that is handed in, so that a seed tells all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

MAX_BYTES: Final = 200_000
"""Nothing grows beyond this: what is slow by size alone has tests of its own."""

LINK: Final = b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20"
ITEMS: Final[tuple[bytes, ...]] = (
    b"\xf6", b"\xf5", b"\xf4", b"\xf7", b"\xf8\x20", b"\x00", b"\x01", b"\x17", b"\x18\x18", b"\x18\x17",
    b"\x19\x01\x00", b"\x19\x00\xff", b"\x1a\xff\xff\xff\xff", b"\x1b\x7f" + b"\xff" * 7,
    b"\x1b\x80" + b"\x00" * 7, b"\x1b" + b"\xff" * 8, b"\x20", b"\x3b" + b"\xff" * 8, b"\x40", b"\x60",
    b"\x80", b"\xa0", b"\x9f\xff", b"\xbf\xff", b"\x5f\xff", b"\x7f\xff", b"\xf9\x7e\x00", b"\xf9\x00\x00",
    b"\xfb\x3f\xf8" + b"\x00" * 6, b"\xc0\x60", b"\xd8\x2a\x40", b"\xd8\x2a\x41\x00", b"\xd8\x2a\x60",
    LINK + b"\x11" * 32, b"\xd8\x2a\x58\x25\x00\x01\x55\x12\x20" + b"\x22" * 32,
    b"\xd8\x2a\x58\x25\x01\x01\x71\x12\x20" + b"\x22" * 32, b"\x58\x24\x01\x71\x12\x20" + b"\x33" * 32,
    b"\x5a\xff\xff\xff\xff", b"\x9a\xff\xff\xff\xff", b"\xba\x00\x01\x00\x00", b"\x61\xff", b"\x61e",
    b"\x62ok", b"\x61\x00", b"\xa1\x61a\x01", b"\xa1\x01\x01", b"\xa2\x61b\x01\x61a\x01",
    b"\xa2\x61a\x01\x61a\x01", b"\x81" * 40 + b"\x80", b"\xa1\x61a" * 40 + b"\xf6",
)  # fmt: skip
"""Small items, canonical and not, that meet the corners of any reader."""
NUMBERS: Final = (0, 1, 2, 23, 24, 31, 32, 63, 64, 127, 128, 255)

Mutation = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


# --- bytes ---


def _flip(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]


def _set(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + bytes([rng.choice(NUMBERS)]) + raw[at + 1 :]


def _step(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + bytes([(raw[at] + rng.choice((-1, 1))) % 256]) + raw[at + 1 :]


def _span(raw: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(raw))
    return start, min(len(raw), start + rng.choice((1, 2, 4, 8, 36, 41, rng.randrange(1, 500))))


def _delete(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = _span(raw, rng)
    return raw[:start] + raw[end:]


def _repeat(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = _span(raw, rng)
    return raw[:end] + raw[start:end] * rng.choice((1, 1, 1, 2, 16, 256)) + raw[end:]


def _insert(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + rng.randbytes(rng.randrange(1, 9)) + raw[at:]


def _cut(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    return raw[: rng.randrange(len(raw))]


def _splice(raw: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    if not other:
        return raw
    start, end = _span(other, rng)
    at, to = _span(raw, rng)
    return raw[:at] + other[start:end] + raw[rng.choice((at, to)) :]


def _exchange(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    a, b = _span(raw, rng)
    c, d = _span(raw, rng)
    if b > c:
        return raw
    return raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]


# --- CBOR ---


def items_of(raw: bytes, start: int = 0, *, most: int = 4000) -> list[tuple[int, int, int]]:
    """Where items begin, where their heads end, and where they end; as far as this is CBOR."""
    found: list[tuple[int, int, int]] = []
    open_items: list[tuple[int, int, int]] = []  # index in found, head's end, items left
    at = start
    while at < len(raw) and len(found) < most:
        initial = raw[at]
        major, low = initial >> 5, initial & 31
        size = {24: 1, 25: 2, 26: 4, 27: 8}.get(low, 0)
        argument = low if low < 24 else int.from_bytes(raw[at + 1 : at + 1 + size], "big")
        head = at + 1 + size
        index = len(found)
        found.append((at, head, head))
        children = {4: argument, 5: 2 * argument, 6: 1}.get(major, 0)
        at = head + (argument if major in (2, 3) else 0)
        if at > len(raw):
            found.pop()
            break
        if children:
            open_items.append((index, head, children))
            continue
        found[index] = (found[index][0], head, at)
        while open_items:
            index, head, left = open_items.pop()
            if left > 1:
                open_items.append((index, head, left - 1))
                break
            found[index] = (found[index][0], head, at)
        if not open_items:
            break
    return [item for item in found if item[2] > item[0]]


def _any_item(raw: bytes, rng: random.Random) -> tuple[int, int, int] | None:
    items = items_of(raw)
    if len(items) == 1 and items[0][2] < len(raw):
        items += items_of(raw, items[0][2])
    elif items and items[-1][2] < len(raw):
        items += items_of(raw, max(end for _, _, end in items))
    return rng.choice(items) if items else None


def _replace_item(raw: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    item = _any_item(raw, rng)
    if item is None:
        return _set(raw, rng, others)
    start, _, end = item
    if rng.random() < 0.6:
        return raw[:start] + rng.choice(ITEMS) + raw[end:]
    other = rng.choice((raw, rng.choice(others)))
    found = _any_item(other, rng) if other else None
    return raw if found is None else raw[:start] + other[found[0] : found[2]] + raw[end:]


def _longer_head(raw: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    item = _any_item(raw, rng)
    if item is None:
        return _set(raw, rng, others)
    start, head, _ = item
    low = raw[start] & 31
    argument = low if low < 24 else int.from_bytes(raw[start + 1 : head], "big")
    size = rng.choice([size for size in (1, 2, 4, 8) if argument < 256**size])
    code = {1: 24, 2: 25, 4: 26, 8: 27}[size]
    return raw[:start] + bytes([raw[start] & 0xE0 | code]) + argument.to_bytes(size) + raw[head:]


def _count(raw: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """An item more or less in a container, with a head that says so (or one that does not)."""
    item = _any_item(raw, rng)
    if item is None:
        return _set(raw, rng, others)
    start, head, end = item
    new = rng.choice(ITEMS) if rng.random() < 0.5 else raw[start:end]
    changed = raw[:start] + new + raw[start:] if rng.random() < 0.6 else raw[:start] + raw[end:]
    at = changed.rfind(bytes([raw[start - 1]]), 0, start) if start else 0
    if rng.random() < 0.7 and 0 <= at < start and (changed[at] >> 5) in (4, 5):
        changed = (
            changed[:at] + bytes([(changed[at] + rng.choice((-1, 1))) % 256]) + changed[at + 1 :]
        )
    return changed if head else raw


def _nest(raw: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    item = _any_item(raw, rng)
    if item is None:
        return _set(raw, rng, others)
    start, _, end = item
    depth = rng.choice((1, 2, 30, 31, 32, 33, 200, 5000))
    return raw[:start] + rng.choice((b"\x81", b"\xa1\x61a")) * depth + raw[start:end] + raw[end:]


def _exchange_items(raw: bytes, rng: random.Random, __: Sequence[bytes]) -> bytes:
    first, second = _any_item(raw, rng), _any_item(raw, rng)
    if first is None or second is None or first[2] > second[0]:
        return raw
    (a, _, b), (c, _, d) = first, second
    return raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]


BYTES: Final[tuple[Mutation, ...]] = (
    _flip, _flip, _set, _step, _delete, _repeat, _insert, _cut, _splice, _splice, _exchange,
)  # fmt: skip
CBOR: Final[tuple[Mutation, ...]] = (
    _replace_item, _replace_item, _replace_item, _longer_head, _count, _nest, _exchange_items,
)  # fmt: skip


def mutated(
    raw: bytes, rng: random.Random, others: Sequence[bytes], kinds: Sequence[Mutation]
) -> bytes:
    """One to a few mutations after one another; never more than MAX_BYTES."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if not raw:
            return rng.choice(others)
        raw = rng.choice(kinds)(raw, rng, others)
    return raw[:MAX_BYTES]
