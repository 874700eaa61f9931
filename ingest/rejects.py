"""Which of the dropped messages does the ledger keep?

    drop ─▶ Ledger.note ─▶ waiting ─▶ take ─▶ (once a second) ─▶ table `reject`
               │              └─ the database is away: thinned, the most repeated first
               └─ the share of its reason or of its account is used up: counted, not kept

    every drop ─▶ Ledger.note ──▶ take_tally ─▶ (once a second) ─▶ table `host_drop`

What everything here obeys: a flood of one kind must not bury the one message that somebody will ask
about. So a reason has a share of its own at each host, and an account within it; and what has to go
goes in the order of `worth`, in which the newest of each reason comes before the second newest of any.
The table is bounded in the same order (ingest.store).

A `duplicate` is not kept: the event itself is in the log, and nobody has lost anything. The other
replays, `rev_not_newer` and `seq_not_rising`, are: to an operator whose host was restored from a backup
they are the answer.

No I/O, no clock. A crash of this process loses what waits, at most a second of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from common.dagcbor import MalformedCbor, decode_map
from common.event import Event
from common.frame import parse_header
from common.reject import Reject
from common.syntax import Did, Tid, parse_did, parse_tid
from common.verdict import Drop, DropReason

NOT_KEPT: Final = frozenset({DropReason.DUPLICATE})
REASON_BURST: Final = 16
"""So many drops of one host for one reason are kept however quickly they come."""
REASON_EVERY_S: Final = 5.0
"""After that one in so many seconds. With every reason at once, that is nine rows a second."""
ACCOUNT_MOST: Final = 4
ACCOUNT_WITHIN_S: Final = 60.0
"""One account takes at most ACCOUNT_MOST of a reason's share within so many seconds."""
HOST_FRAME_BYTES: Final = 8_000_000
"""Frames of one host are kept up to so many bytes however quickly they come."""
HOST_FRAME_BYTES_A_SECOND: Final = 10_000.0
WAITING_ROWS: Final = 1_000
WAITING_BYTES: Final = 16_000_000
"""What may wait in memory for the database; a row counts ROW_BYTES besides its frame."""
ROW_BYTES: Final = 1_000
TAKEN_ROWS: Final = 200
TAKEN_BYTES: Final = 8_000_000
"""What is written at once."""
DETAIL_CHARS: Final = 300
_SHARES_LOOKED_AFTER: Final = 1_000
_KINDS: Final = {
    "#commit": "commit",
    "#sync": "sync",
    "#identity": "identity",
    "#account": "account",
}


class _Share:
    """What one host may still have kept for one reason.

    left: rows, at `at_s`. recent: the accounts of the last rows, and when each was kept.
    """

    __slots__ = ("at_s", "left", "recent")

    def __init__(self, now_s: float) -> None:
        self.left = float(REASON_BURST)
        self.at_s = now_s
        self.recent: deque[tuple[str, float]] = deque(maxlen=REASON_BURST)

    def admit(self, did: str, now_s: float) -> bool:
        """Whether one more may be kept; if so, it is counted."""
        passed_s = max(0.0, now_s - self.at_s)
        self.left = min(REASON_BURST, self.left + passed_s / REASON_EVERY_S)
        self.at_s = now_s
        if self.left < 1:
            return False
        since_s = now_s - ACCOUNT_WITHIN_S
        same = sum(known == did and at_s > since_s for known, at_s in self.recent)
        if did and same >= ACCOUNT_MOST:
            return False
        self.left -= 1
        self.recent.append((did, now_s))
        return True

    def is_full(self, now_s: float) -> bool:
        """Whether a new one would be as good."""
        return now_s - self.at_s > REASON_EVERY_S * REASON_BURST + ACCOUNT_WITHIN_S


class _Bytes:
    """What one host may still have kept of its frames. left: in bytes, at `at_s`."""

    __slots__ = ("at_s", "left")

    def __init__(self, now_s: float) -> None:
        self.left = float(HOST_FRAME_BYTES)
        self.at_s = now_s

    def admit(self, size: int, now_s: float) -> bool:
        """Whether a frame of `size` bytes may be kept; if so, it is counted."""
        gained = max(0.0, now_s - self.at_s) * HOST_FRAME_BYTES_A_SECOND
        self.left = min(HOST_FRAME_BYTES, self.left + gained)
        self.at_s = now_s
        if self.left < size:
            return False
        self.left -= size
        return True

    def is_full(self, now_s: float) -> bool:
        """Whether a new one would be as good."""
        return now_s - self.at_s > HOST_FRAME_BYTES / HOST_FRAME_BYTES_A_SECOND


class Counts:
    """What became of the drops, since the last time somebody took these numbers.

    passed_over: over their share. lost: thinned out while the database was away.
    """

    __slots__ = ("kept", "lost", "passed_over")

    def __init__(self) -> None:
        self.kept = self.passed_over = self.lost = 0


class Tally(NamedTuple):
    """How often a message of a host was dropped for a reason. last_s: when the last was, Unix seconds."""

    host: int
    reason: DropReason
    times: int
    last_s: float


class Ledger:
    """The drops of one ingest process that are to be written."""

    def __init__(self) -> None:
        self._waiting: deque[Reject] = deque()
        self.waiting_bytes = 0
        self.counts = Counts()
        self._shares: dict[tuple[int, DropReason], _Share] = {}
        self._bytes: dict[int, _Bytes] = {}
        self._look_after = _SHARES_LOOKED_AFTER
        self._tally: dict[tuple[int, DropReason], tuple[int, float]] = {}
        """As many entries as hosts that had something dropped have reasons for it."""

    def __len__(self) -> int:
        """Rows that wait."""
        return len(self._waiting)

    def note(self, host: int, drop: Drop, event: Event | None, raw: bytes, now_s: float) -> None:
        """A message of a host went no further.

        Args: event: None where it could not be read. raw: its bytes, empty where nobody has them.
        """
        reason = drop.reason
        if reason in NOT_KEPT:
            return
        self._count(host, reason, 1, now_s)
        share = self._shares.get((host, reason))
        if share is None:
            share = self._shares[host, reason] = _Share(now_s)
            if len(self._shares) > self._look_after:
                self._forget(now_s)
        # Whose message it is that is no event is read after this: a flood must not make us read.
        if not share.admit(event.did if event is not None else "", now_s):
            self.counts.passed_over += 1
            return
        if event is not None:
            claim = Claim(event.kind.name.lower(), event.did, event.rev, event.seq)
        else:
            claim = claim_of(raw, drop)
        budget = self._bytes.get(host)
        if budget is None:
            budget = self._bytes[host] = _Bytes(now_s)
        frame = raw if raw and budget.admit(len(raw), now_s) else None
        self._add(Reject(host, now_s, reason, _storable(drop.detail), *claim, len(raw), frame))

    def take(self) -> list[Reject]:
        """What to write now, oldest first; it no longer waits."""
        taken: list[Reject] = []
        size = 0
        while self._waiting and len(taken) < TAKEN_ROWS:
            size += bytes_of(self._waiting[0])
            if taken and size > TAKEN_BYTES:
                break
            taken.append(self._waiting.popleft())
            self.waiting_bytes -= bytes_of(taken[-1])
        return taken

    def take_tally(self) -> list[Tally]:
        """How often each host's messages were dropped since this was asked last, in order of hosts: who
        writes the same rows from another process does so in the same order, and none waits for the other.
        """
        taken = [Tally(*key, *counted) for key, counted in sorted(self._tally.items())]
        self._tally.clear()
        return taken

    def give_back_tally(self, taken: Sequence[Tally]) -> None:
        """These could not be written."""
        for tally in taken:
            self._count(*tally)

    def _count(self, host: int, reason: DropReason, times: int, last_s: float) -> None:
        known, known_s = self._tally.get((host, reason), (0, last_s))
        self._tally[host, reason] = known + times, max(known_s, last_s)

    def give_back(self, taken: Sequence[Reject]) -> None:
        """These could not be written: they wait on, at their old place."""
        self._waiting.extendleft(reversed(taken))
        self.waiting_bytes += sum(map(bytes_of, taken))
        self._thin()

    def _add(self, reject: Reject) -> None:
        self._waiting.append(reject)
        self.waiting_bytes += bytes_of(reject)
        self._thin()

    def _thin(self) -> None:
        """Over the bound: let go of what is worth the least, down to three quarters."""
        if len(self._waiting) <= WAITING_ROWS and self.waiting_bytes <= WAITING_BYTES:
            return
        kept: list[tuple[int, Reject]] = []
        rows, size = WAITING_ROWS * 3 // 4, 0
        for place in worth(self._waiting)[:rows]:
            reject = self._waiting[place]
            if size + bytes_of(reject) > WAITING_BYTES * 3 // 4:
                reject = reject._replace(frame=None)
            size += bytes_of(reject)
            kept.append((place, reject))
        self.counts.lost += len(self._waiting) - len(kept)
        self._waiting = deque(reject for _place, reject in sorted(kept, key=lambda pair: pair[0]))
        self.waiting_bytes = size

    def _forget(self, now_s: float) -> None:
        """Forget shares that have grown full again; look again when there are twice as many."""
        self._shares = {k: share for k, share in self._shares.items() if not share.is_full(now_s)}
        self._bytes = {k: left for k, left in self._bytes.items() if not left.is_full(now_s)}
        self._look_after = max(_SHARES_LOOKED_AFTER, 2 * len(self._shares))


def bytes_of(reject: Reject) -> int:
    """What a row takes, in bytes."""
    return ROW_BYTES + (len(reject.frame) if reject.frame is not None else 0)


def worth(rejects: Sequence[Reject]) -> list[int]:
    """The places of `rejects`, which are in order of time, from the worthiest to keep to the least.

    Hosts alternate, in each host its reasons, in each reason its accounts, each with its newest first.
    """
    of_account: Counter[tuple[int, DropReason, str | None]] = Counter()
    reasons: defaultdict[tuple[int, DropReason], list[tuple[int, int]]] = defaultdict(list)
    for place in range(len(rejects) - 1, -1, -1):
        reject = rejects[place]
        key = (reject.host, reject.reason, reject.did)
        of_account[key] += 1
        reasons[reject.host, reject.reason].append((of_account[key], -place))
    hosts: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for (host, _reason), ranked in reasons.items():
        hosts[host] += [(rank, place) for rank, (_, place) in enumerate(sorted(ranked))]
    overall: list[tuple[int, int]] = []
    for ranked in hosts.values():
        overall += [(rank, place) for rank, (_, place) in enumerate(sorted(ranked))]
    return [-place for _rank, place in sorted(overall)]


def _storable(detail: str) -> str:
    """PostgreSQL's text holds any character but NUL, and no half of one."""
    text = detail[:DETAIL_CHARS].encode(errors="replace").decode()
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


class Claim(NamedTuple):
    """What a message says of itself; None where that is not legible."""

    kind: str | None
    did: Did | None
    rev: Tid | None
    seq: int | None


def claim_of(raw: bytes, drop: Drop) -> Claim:
    """What a message that is no event says of itself, as far as it can be read."""
    seq = drop.seq or None
    try:
        header = parse_header(raw)
        fields = decode_map(raw, header.payload).value
    except MalformedCbor:
        return Claim(None, None, None, seq)
    did = parse_did(fields.get("repo", fields.get("did")))
    return Claim(_KINDS.get(header.t or ""), did, parse_tid(fields.get("rev")), seq)
