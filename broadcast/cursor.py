"""Where does a consumer start?

    query string ──▶ nothing | seq | BadCursor          durable, oldest ──▶ Live | Replay | Future

Decisions, where the sources differ or are silent:
    A cursor is inclusive: the event it names is sent again.
    An empty `cursor=` is as good as none, as the reference PDS has it.
    Negative, not a number, beyond 64 bits, or given twice: 400, since nothing sensible can be meant.
    "Greater than the current seq" is taken by the letter: the seq after the newest one is in the
    future too. A consumer that has everything names the last seq it has.
    Outdated means that something the consumer has not seen is gone: its cursor is lower than the
    highest seq that was purged. A cursor of 0 asks for the whole window and is never outdated.

This module does not know where the log is or who asks.

Source: event-stream spec, Sequence Numbers; com.atproto.sync.subscribeRepos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

SEQ_MAX: Final = 2**63 - 1
"""The highest integer of the data model. Source: data-model spec."""
_DIGITS_MAX: Final = 19
_PARAMETERS_MAX: Final = 100


class BadCursor(ValueError):
    """The consumer's cursor means nothing; the text tells why."""


@dataclass(frozen=True, slots=True)
class Live:
    """Only what is new."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Everything from `from_seq` on, then what is new.

    outdated: the consumer is told first that it missed something.
    """

    from_seq: int
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Future:
    """The cursor names what does not exist yet: an error frame, and the end."""

    durable_seq: int


Start = Live | Replay | Future


def parse_cursor(query_string: str) -> int | None:
    """The cursor in a query string, None when there is none. Other parameters are ignored.

    Raises:
        BadCursor: given twice, not a whole number from 0 to 2^63 - 1.
    """
    try:
        pairs = parse_qsl(query_string, keep_blank_values=True, max_num_fields=_PARAMETERS_MAX)
    except ValueError:
        raise BadCursor("too many query parameters") from None
    given = [value for name, value in pairs if name == "cursor"]
    if len(given) > 1:
        raise BadCursor("cursor was given more than once")
    if not given or not given[0]:
        return None
    text = given[0]
    # int() also takes signs, spaces, underscores and the digits of other scripts.
    if not (text.isascii() and text.isdigit()):
        raise BadCursor("cursor must be a whole number, 0 or greater")
    digits = text.lstrip("0") or "0"
    if len(digits) > _DIGITS_MAX or int(digits) > SEQ_MAX:
        raise BadCursor("cursor is beyond the range of a 64-bit integer")
    return int(digits)


def decide_start(cursor: int | None, *, oldest_seq: int, durable_seq: int) -> Start:
    """Where a consumer with this cursor starts.

    Args:
        oldest_seq: the first seq that can be read; durable_seq + 1 when there is none.
        durable_seq: the newest seq of the log, by the log's own word, not by what this process
            has received: a consumer may come from a sibling that was ahead.
    """
    if cursor is None:
        return Live()
    if cursor > durable_seq:
        return Future(durable_seq)
    if cursor >= oldest_seq:
        return Replay(cursor)
    return Replay(oldest_seq, outdated=is_outdated(cursor, oldest_seq))


def is_outdated(cursor: int, oldest_seq: int) -> bool:
    """Whether who names this cursor has missed something: it lies before the last purged seq."""
    highest_purged = oldest_seq - 1
    return 0 < cursor < highest_purged
