"""What does the log alone prove of an account, where its beginning may have left the log?

    nothing known ─▶ event ─▶ event ─▶ Known: a state, and which of its fields are certain
    Known, a row of the view ─▶ the columns that differ

The states follow by persist/replay.py's rules, the same as at a start. A field is certain once an event
set it; what an event leaves alone stays as uncertain as it was.

Values in, values out; who reads the log and the view is persist/verify.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final, NamedTuple

from common.envelope import NEVER_SEEN, AccountState, Kind, Mark
from common.packed_state import pack_state, unpack_state
from persist.replay import Logged, state_after

_HEAD: Final = struct.Struct("<QB")


class Certain(IntFlag):
    """Fields of a state that are known. COUNT: `discontinuities`, which is a lower bound without."""

    COMMIT = 1
    STATUS = 2
    HOST = 4
    DESYNCHRONIZED = 8
    COUNT = 16
    LOCAL = 32


ALL: Final = Certain(63)


class Known(NamedTuple):
    """seq: of the account's newest event. state: as far as `certain` says."""

    seq: int
    state: AccountState
    certain: Certain


NOTHING: Final = Known(0, NEVER_SEEN, Certain(0))
"""Of an account whose earlier events are not in the log any more."""
NEVER: Final = Known(0, NEVER_SEEN, ALL)
"""Of an account that has had no event, where the log is whole from its first seq on."""


def after(known: Known, logged: Logged) -> Known:
    """What is known behind one more event.

    Raises:
        Damaged: the commit it carries cannot be read.
    """
    state = state_after(known.state, logged)
    kind, certain = logged.event.kind, known.certain
    if kind <= Kind.SYNC:
        begins = kind == Kind.SYNC and certain & Certain.COMMIT and state.rev != known.state.rev
        if logged.marks & Mark.DISCONTINUOUS or begins:
            certain |= Certain.DESYNCHRONIZED
        certain |= Certain.COMMIT | Certain.HOST
    elif logged.marks & Mark.LOCAL:
        certain |= Certain.LOCAL
    elif kind == Kind.ACCOUNT:
        certain |= Certain.STATUS
        if not logged.marks & Mark.OURS:
            certain |= Certain.HOST
    return Known(logged.seq, state, certain)


def differing(known: Known, viewed: AccountState) -> list[tuple[str, object, object]]:
    """Where the view differs: (column, what it has, what the log led to)."""
    state, certain = known.state, known.certain
    found: list[tuple[str, object, object]] = []

    def compare(field: Certain, column: str, has: object, led: object) -> None:
        if certain & field and has != led:
            found.append((column, has, led))

    compare(Certain.COMMIT, "rev", viewed.rev, state.rev)
    compare(Certain.COMMIT, "data_cid", _hex(viewed.data), _hex(state.data))
    compare(Certain.COMMIT, "commit_cid", _hex(viewed.commit), _hex(state.commit))
    compare(Certain.STATUS, "active", viewed.active, state.active)
    compare(Certain.STATUS, "status", viewed.status, _stored(state.status))
    compare(Certain.HOST, "host_id", viewed.host, state.host)
    compare(
        Certain.DESYNCHRONIZED, "desynchronized", viewed.desynchronized, state.desynchronized
    )  # fmt: skip
    compare(Certain.LOCAL, "local", viewed.local, state.local)
    compare(Certain.LOCAL, "over_limit", viewed.over_limit, state.over_limit)
    least = state.discontinuities
    if viewed.discontinuities < least or (
        certain & Certain.COUNT and viewed.discontinuities != least
    ):
        found.append(("discontinuities", viewed.discontinuities, least))
    return found


@dataclass(slots=True)
class Fold:
    """The accounts of one pass: those whose key leaves `part` when divided by `parts`.

    known: by account key, packed. lost: ranges of seqs that cannot be read: [from, until).
    first_seq: of the first event that was read; nothing before it is known.
    """

    part: int = 0
    parts: int = 1
    first_seq: int | None = None
    whole: bool = False
    lost_until: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    known: dict[bytes, bytes] = field(default_factory=dict)

    def takes(self, account: bytes) -> bool:
        """Whether an account belongs to this pass."""
        return self.parts == 1 or int.from_bytes(account[:4]) % self.parts == self.part

    def lose(self, from_seq: int, until_seq: int) -> None:
        """What these events said is not known."""
        self.lost.append((from_seq, until_seq))
        self.lost_until = max(self.lost_until, until_seq)

    def is_lost(self, seq: int) -> bool:
        """Whether an event with this seq may have been, and cannot be read."""
        return any(start <= seq < end for start, end in self.lost)

    def before(self, account: bytes) -> Known:
        """What is known of an account before its next event."""
        packed = self.known.get(account)
        if packed is None:
            return NEVER if self.whole and not self.lost else NOTHING
        known = unpack(packed)
        return NOTHING if known.seq < self.lost_until else known

    def put(self, account: bytes, known: Known) -> None:
        """What is known of an account now."""
        self.known[account] = pack(known)

    def take(self, account: bytes) -> Known:
        """What is known of an account at the end, which is then let go; NOTHING where it has no
        event.
        """
        packed = self.known.pop(account, None)
        return unpack(packed) if packed is not None else NOTHING


def pack(known: Known) -> bytes:
    """As little as is kept for each of a million accounts; `unpack` is the inverse."""
    return _HEAD.pack(known.seq, known.certain) + pack_state(known.state)


def unpack(packed: bytes) -> Known:
    """The inverse of `pack`."""
    seq, certain = _HEAD.unpack_from(packed)
    return Known(seq, unpack_state(packed[_HEAD.size :]), Certain(certain))


def _hex(cid: bytes | None) -> str | None:
    return cid.hex() if cid is not None else None


def _stored(status: str | None) -> str | None:
    """As persist.store writes it: no NUL."""
    return status.replace("\0", "\N{REPLACEMENT CHARACTER}") if status else status
