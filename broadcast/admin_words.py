"""What does an operator's request say, and does it make sense?

    query and body ─▶ values | AdminError

Read as the reference relay reads it: keys of a JSON object in any case, flags and numbers as Go
writes them. Whatever is wrong is the operator's to mend, so it is told in words.

This module does not know HTTP servers or the database.

Source: the reference relay's admin API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from broadcast.xrpc import XrpcError, parse_hostname
from common.control import RESET, Limits
from common.syntax import Did, parse_did
from common.verdict import Level

COUNT_MAX: Final = 10**9
"""The largest limit that can be set: what a column holds, rounded."""
SEQ_MAX: Final = 2**53 - 1
"""Source: event-stream spec, Sequence Numbers."""
ID_MAX: Final = 2**63 - 1
TEXT_MAX: Final = 2048
_TRUE: Final = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE: Final = {"0", "f", "F", "false", "FALSE", "False"}
"""Source: Go, strconv.ParseBool."""
_SCHEMES: Final = {"http": False, "ws": False, "https": True, "wss": True}


class AdminError(Exception):
    """An answer in the admin API's error form: `{"error": text}`."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


def bad(error: str) -> AdminError:
    """The request makes no sense."""
    return AdminError(400, error)


class HostWords(NamedTuple):
    """A host as it was named. hostname: in normal form. tls: as a scheme said, or None."""

    hostname: str
    tls: bool | None


class Params:
    """The parameters of one request: of the query, or of a JSON body."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Args: values: keys in lower case; texts, or whatever JSON has."""
        self._values = values

    @classmethod
    def of_query(cls, pairs: Sequence[tuple[str, str]]) -> Params:
        """Of a URL: the first of a name counts, and an empty one is as good as none."""
        return cls({key.lower(): value for key, value in reversed(pairs) if value})

    @classmethod
    def of_body(cls, body: bytes, content_type: str | None) -> Params:
        """Of a JSON object.

        Raises:
            AdminError: it is none.
        """
        kind = (content_type or "").partition(";")[0].strip().lower()
        # A form of a page elsewhere can send any kind but this one without asking first.
        if kind != "application/json":
            raise AdminError(415, "the body has to be application/json")
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise bad("the body is not JSON") from None
        if not isinstance(value, dict):
            raise bad("the body is not a JSON object")
        return cls({key.lower(): what for key, what in value.items()})

    def has(self, name: str) -> bool:
        """Whether it was given, as null or not."""
        return name.lower() in self._values

    def text(self, name: str) -> str | None:
        """A text, or None where it is not given."""
        value = self._values.get(name.lower())
        if value is None:
            return None
        if not isinstance(value, str):
            raise bad(f"{name} has to be a text")
        value = value.strip()
        if len(value) > TEXT_MAX or not value.isprintable():
            raise bad(f"{name} is no such text: it is too long, or has control characters")
        return value or None

    def required(self, name: str) -> str:
        """A text that has to be there."""
        value = self.text(name)
        if value is None:
            raise bad(f"{name} is missing")
        return value

    def flag(self, name: str) -> bool | None:
        """Yes or no, or None where it is not given."""
        value = self._values.get(name.lower())
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str) and value in _TRUE | _FALSE:
            return value in _TRUE
        raise bad(f"{name} has to be true or false")

    def number(self, name: str, low: int, high: int) -> int | None:
        """A whole number, or None where it is not given."""
        value = self._values.get(name.lower())
        if value is None:
            return None
        if isinstance(value, str):
            digits = value.removeprefix("-")
            if digits.isascii() and digits.isdigit() and len(digits) < 20:
                value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise bad(f"{name} has to be a whole number from {low} to {high}")
        return value

    def host(self, name: str) -> HostWords:
        """A host, as a name or a URL."""
        return parse_host(self.required(name))

    def did(self) -> Did:
        """The account in question."""
        did = parse_did(self.required("did"))
        if did is None:
            raise bad("did is not a DID")
        return did

    def domain(self) -> str:
        """A domain in normal form: lower case, no dots or stars at its ends."""
        domain = self.required("domain").lower().removeprefix("*.").strip(".")
        name = _hostname(domain, "domain")
        if ":" in name:
            raise bad("domain has no port")
        return name

    def level(self) -> Level:
        """How strictly a host is judged."""
        try:
            return Level(self.required("level"))
        except ValueError:
            words = ", ".join(level.value for level in Level)
            raise bad(f"level has to be one of {words}") from None

    def cursor(self) -> int | None:
        """Where to read a host from: a number of its own, 0 for its first event, None for live."""
        if self._values.get("cursor") == "live":
            return None
        cursor = self.number("cursor", 0, SEQ_MAX)
        if cursor is None:
            raise bad('cursor is missing; give a number, 0 for the first event, or "live"')
        return cursor

    def limits(self) -> Limits:
        """The limits of a host that are given."""
        return Limits(
            self.number("repo_limit", 0, COUNT_MAX),
            *[
                self.number(name, RESET, COUNT_MAX)
                for name in ("per_second", "per_hour", "per_day")
            ],
        )

    def page(self, default: int, largest: int) -> int:
        """How many rows of a listing."""
        return self.number("limit", 1, largest) or default


def parse_host(text: str) -> HostWords:
    """A host's name from a name or a URL, without the port that its scheme has anyway.

    Raises:
        AdminError: it names none.
    """
    scheme, mark, rest = text.strip().partition("://")
    if not mark:
        return HostWords(_hostname(text.strip().rstrip("."), "host"), None)
    tls = _SCHEMES.get(scheme.lower())
    if tls is None:
        raise bad("host has a scheme that is none of https, wss, http, ws")
    name = _hostname(rest.rstrip("/").rstrip("."), "host")
    return HostWords(name.removesuffix(":443" if tls else ":80"), tls)


def _hostname(text: str, name: str) -> str:
    try:
        return parse_hostname(text)
    except XrpcError:
        raise bad(f"{name} is not a host name") from None
