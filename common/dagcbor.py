"""Is this DRISL-CBOR in its one canonical form, and what does it say?

This decoder is slow, obvious and strict: the arbiter. The hot path (common.event) decodes with
libipld, which takes more than the standard allows, and comes here whenever it cannot prove that
what libipld took is canonical.

A link is `bytes` (the CID, without the leading zero byte) as it is with libipld; a byte string is a
`ByteString`, so that one that looks like a CID is not mistaken for a link.

Source: the data-model spec; RFC 8949 §4.2 with the map order of RFC 7049 §3.9.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

MAX_DEPTH: Final = 32
"""Arrays and maps within each other. Source: the data-validation guide's recommended limits."""
MAX_ITEMS: Final = 16_384
"""Items in one object, keys included, where the reader allows no less: so many tiny ones cost 10 ms, so
many links 25. Without a limit 5 MB of them cost seconds and hundreds of MB."""
SMALL_ITEMS: Final = 1024
"""The same for what has a handful of items: the headers of frames and CARs, and commit objects. Fields
of the future have room, and all that one message can make us read slowly stays in milliseconds. [own]"""
MAX_CID_BYTES: Final = 100
"""Source: the data-validation guide's recommended limits."""

_INT64_MAX: Final = 2**63 - 1
_ARGUMENT_BYTES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_SMALLEST: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
"""The smallest argument that needs a head of this form; anything less has a shorter one."""
_SIMPLE: Final = {0xF4: False, 0xF5: True, 0xF6: None}


class MalformedCbor(ValueError):
    """Not canonical DRISL-CBOR, or beyond the limits; the message says where and why."""


class TooManyItems(MalformedCbor):
    """More items than the reader allows: whatever it is, it was not read to its end."""


class ByteString(bytes):
    """A CBOR byte string, as opposed to a link."""

    __slots__ = ()


class Span(NamedTuple):
    """Where one entry of a map stands, in bytes: its key, its value, and what follows."""

    key: int
    value: int
    end: int


class DecodedMap(NamedTuple):
    """One decoded map, the places of its entries, and the first byte after it."""

    value: dict[str, Any]
    spans: dict[str, Span]
    body: int
    end: int


def decode(raw: bytes, max_items: int = MAX_ITEMS) -> Any:
    """Decode one object that fills `raw`.

    Raises:
        MalformedCbor: see there; also when bytes follow the object.
    """
    reader = _Reader(raw, 0, max_items)
    value = reader.item(0)
    if reader.at != len(raw):
        raise MalformedCbor(f"bytes follow the object at {reader.at}")
    return value


def decode_map(raw: bytes, start: int = 0, max_items: int = MAX_ITEMS) -> DecodedMap:
    """Decode the map that begins at `start`, and tell where its entries stand.

    Raises:
        MalformedCbor: see there; also when it is not a map. Bytes after it are the caller's.
    """
    if start >= len(raw) or raw[start] >> 5 != 5:
        raise MalformedCbor(f"no map at {start}")
    reader = _Reader(raw, start, max_items)
    spans: dict[str, Span] = {}
    count = reader.head()[1]
    body = reader.at
    value = reader.entries(count, 0, spans)
    return DecodedMap(value, spans, body, reader.at)


def check_map(raw: bytes, max_items: int) -> int:
    """Hold one map that fills `raw` against the canonical form → how many items it has.

    Raises:
        TooManyItems: it has more than `max_items`.
        MalformedCbor: see there; also when it is no map.
    """
    if raw[:1] < b"\xa0" or raw[:1] > b"\xbf":
        raise MalformedCbor("no map")
    reader = _Reader(raw, 0, max_items)
    reader.item(0)
    if reader.at != len(raw):
        raise MalformedCbor(f"bytes follow the object at {reader.at}")
    return max_items - reader.left


def map_head(count: int) -> bytes:
    """The head of a map of `count` entries, in shortest form, for less than 256 of them."""
    return bytes([0xA0 | count]) if count < 24 else bytes([0xB8, count])


class _Reader:
    """A place in the bytes, and how many items may still be read."""

    __slots__ = ("at", "left", "limit", "raw")

    def __init__(self, raw: bytes, at: int, limit: int = MAX_ITEMS) -> None:
        self.raw = raw
        self.at = at
        self.left = self.limit = limit

    def head(self) -> tuple[int, int]:
        """Read a head → major type and argument. Not for major type 7."""
        at = self.at
        if at >= len(self.raw):
            raise MalformedCbor(f"ends at {at}, where an item should be")
        initial = self.raw[at]
        argument = initial & 31
        self.at = at + 1
        if argument < 24:
            return initial >> 5, argument
        size = _ARGUMENT_BYTES.get(argument)
        if size is None:
            raise MalformedCbor(f"indefinite or reserved length at {at}")
        self.at += size
        if self.at > len(self.raw):
            raise MalformedCbor(f"ends within the head at {at}")
        value = int.from_bytes(self.raw[at + 1 : self.at], "big")
        if value < _SMALLEST[argument]:
            raise MalformedCbor(f"longer than needed: the head at {at}")
        return initial >> 5, value

    def item(self, depth: int) -> Any:
        """Read one item of any kind."""
        raw, at = self.raw, self.at
        self.left -= 1
        if self.left < 0:
            raise TooManyItems(f"more than {self.limit} items")
        if at < len(raw) and raw[at] >= 0xE0:
            if raw[at] not in _SIMPLE:
                raise MalformedCbor(f"float or unknown simple value at {at}")
            self.at = at + 1
            return _SIMPLE[raw[at]]
        major, argument = self.head()
        if major <= 1:
            if argument > _INT64_MAX:
                raise MalformedCbor(f"integer beyond 64 bits at {at}")
            return argument if major == 0 else -1 - argument
        if major == 2:
            return ByteString(self._take(argument, at))
        if major == 3:
            return self._text(argument, at)
        if major == 6:
            return self._link(argument, at)
        if depth >= MAX_DEPTH:
            raise MalformedCbor(f"nested deeper than {MAX_DEPTH} at {at}")
        if (argument if major == 4 else 2 * argument) > len(raw) - self.at:
            # Else a few bytes that claim to go on could not be told from a long record.
            raise MalformedCbor(f"ends within the items of {at}")
        if argument > self.left:
            raise TooManyItems(f"more than {self.limit} items at {at}")
        if major == 4:
            return [self.item(depth + 1) for _ in range(argument)]
        return self.entries(argument, depth, None)

    def entries(self, count: int, depth: int, spans: dict[str, Span] | None) -> dict[str, Any]:
        """Read the entries of a map, in strict order of their keys."""
        result: dict[str, Any] = {}
        last = (-1, b"")
        for _ in range(count):
            start = self.at
            self.left -= 1
            major, length = self.head()
            if major != 3:
                raise MalformedCbor(f"map key that is not text at {start}")
            order = (length, self._take(length, start))
            if order <= last:
                raise MalformedCbor(f"map key out of order or repeated at {start}")
            last = order
            try:
                key = order[1].decode()
            except UnicodeDecodeError:
                raise MalformedCbor(f"invalid UTF-8 at {start}") from None
            value_start = self.at
            result[key] = self.item(depth + 1)
            if spans is not None:
                spans[key] = Span(start, value_start, self.at)
        return result

    def _take(self, length: int, start: int) -> bytes:
        end = self.at + length
        if end > len(self.raw):
            raise MalformedCbor(f"ends within the string at {start}")
        taken = self.raw[self.at : end]
        self.at = end
        return taken

    def _text(self, length: int, start: int) -> str:
        try:
            return self._take(length, start).decode()
        except UnicodeDecodeError:
            raise MalformedCbor(f"invalid UTF-8 at {start}") from None

    def _link(self, tag: int, start: int) -> bytes:
        if tag != 42:
            raise MalformedCbor(f"tag {tag} at {start}")
        if self.at >= len(self.raw) or self.raw[self.at] >> 5 != 2:
            raise MalformedCbor(f"link that is not a byte string at {start}")
        content = self._take(self.head()[1], start)
        if content[:1] != b"\0" or not 1 < len(content) <= MAX_CID_BYTES + 1:
            raise MalformedCbor(f"link that holds no CID at {start}")
        return content[1:]
