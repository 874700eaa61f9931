"""What crosses a ZeroMQ hop between ingest and persist.

    ingest ── Batch (events, cursors, observations) ──▶ persist
    ingest ◀── Reply (logged, duplicate, back) ──────── persist

The first part of a message is one CBOR object. The frames of a batch follow in a second one,
back to back in the order of its events, exactly as the hosts sent them: a part for each frame
would cost both ends three times as much.

This module knows shapes and bytes. It does not know sockets, and it does not judge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any, Final, NamedTuple

import cbor2

VERSION: Final = 4
"""Version of the messages between the stages; both ends refuse another by name."""


class Kind(IntEnum):
    """The event kinds that are sequenced. Source: com.atproto.sync.subscribeRepos."""

    COMMIT = 1
    SYNC = 2
    IDENTITY = 3
    ACCOUNT = 4


class Mark(IntFlag):
    """What the log keeps of how an event passed: the flags of its row. Never renumbered.

    DISCONTINUOUS: sound in itself, but `since` or `prevData` do not follow from the state.
    WAIVED: failed the inversion, and its host is at the level `observe`.
    OURS: the relay says it, after asking the host; no frame of the host's stands behind it. Its
        upstream_seq is that of the event that made us ask, and names that one alone; its own name
        is (host, epoch, position).
    LOCAL: persist says it by itself (persist.local): how this relay holds the account from here on, which
        is TAKEN_DOWN, OVER_LIMIT, both, or neither. OURS stands beside it.
    HELD: consumers do not get it: what the relay says of the account is not changed by it.
    """

    DISCONTINUOUS = 1
    WAIVED = 2
    OURS = 4
    LOCAL = 8
    HELD = 16
    TAKEN_DOWN = 32
    OVER_LIMIT = 64


TAKEN_DOWN: Final = "takendown"
THROTTLED: Final = "throttled"
"""Words of AccountState.local. Source: com.atproto.sync.subscribeRepos#account."""


class AccountState(NamedTuple):
    """The newest state of one account, as persist owns it.

    rev: TID of the last accepted commit or sync, None before the first.
    data: CID (36 bytes) of that commit's MST root.
    commit: CID (36 bytes) of that commit.
    active, status: hosting status as its host last told it; status None when none was given.
    host: number of the host that last spoke for the account with authority; 0 when none did.
    desynchronized: a commit did not follow from the one before, and no #sync has come since.
    discontinuities: how many such commits there were, ever.
    local: what this relay says of it, whatever its host does: TAKEN_DOWN, else THROTTLED where it is
        over_limit, else None. over_limit: its host had as many accounts as it may when it came, and it
        was not released since.
    """

    rev: str | None
    data: bytes | None
    commit: bytes | None
    active: bool
    status: str | None
    host: int
    desynchronized: bool = False
    discontinuities: int = 0
    local: str | None = None
    over_limit: bool = False


class Base(NamedTuple):
    """The part of an account's state that a verdict depends on: what it was judged against.

    `commit` stands for `data` too. What is not here no verdict depends on, and persist alone knows
    it: a sender that begun anew may have no idea of an account's status or discontinuities.
    """

    rev: str | None
    host: int
    active: bool
    commit: bytes | None = None
    local: str | None = None


NEVER_SEEN: Final = AccountState(None, None, None, True, None, 0)
"""The state of an account of which nothing is known."""


def base_of(state: AccountState) -> Base:
    """What a verdict that was reached against `state` names."""
    return Base(state.rev, state.host, state.active, state.commit, state.local)


class Judged(NamedTuple):
    """One event that passed the judge, without its frame.

    position: rises by at least one from event to event of one ingest process and epoch;
        a resent event keeps its position, one judged again gets a new one.
    shard: the virtual shard of its host. epoch: of the lease under which its sender owns that.
    host, generation, upstream_seq: what identifies the event at its source.
    seq_start, seq_end: where the CBOR integer `seq` stands in the frame, in bytes.
    base: the state it was judged against. after: the state it leads to, as far as its sender
        knows; persist takes what the event says from it, see common.account_state.
    recall: how often events of this account were sent back to this process (see persist.recall).
    received_us: when its last byte was read, Unix microseconds. marks: of common.envelope.Mark.
    """

    position: int
    shard: int
    epoch: int
    kind: int
    host: int
    generation: int
    upstream_seq: int
    did: str
    base: Base
    after: AccountState
    seq_start: int
    seq_end: int
    recall: int
    received_us: int
    marks: int = 0


class ShardClaim(NamedTuple):
    """Who reads the hosts of a virtual shard: `epoch` is that of its lease, and rises with each new
    owner (see common/schema.sql, table `shard`).
    """

    shard: int
    epoch: int


class HostCursor(NamedTuple):
    """Everything of `host` up to `seq` is on disk or was dropped with a counted reason.

    shard, epoch: of the lease under which its sender reads the host, as in `Judged`.
    """

    host: int
    generation: int
    seq: int
    shard: int = 0
    epoch: int = 0


class HostObservation(NamedTuple):
    """What ingest sees of a host now; never what an operator wants of it.

    status: a word of com.atproto.sync.defs#hostStatus. error: the last one, in words, or None.
    The others are columns of the table `host`; those that end in _us are Unix microseconds, 0 for none.
    """

    host: int
    status: str
    error: str | None
    connected: bool = False
    changed_us: int = 0
    failures: int = 0
    next_dial_us: int = 0
    last_event_us: int = 0
    last_seq: int | None = None
    events: int = 0
    limited_by: str | None = None
    limited_until_us: int = 0
    restarts: int = 0
    slowed: int = 0
    foreign_percent: int = 0


@dataclass(slots=True)
class Batch:
    """One message from an ingest process. An empty one is a greeting and asks for a Reply.

    member: number of the ingest process. epoch: which life of it this is, as the database has
    chosen (ingest.lease_table): about when it started, Unix milliseconds; a higher one fences the lower ones
    of the same member out.
    log_epoch: of the last Reply that was heard, 0 before any. Persist takes events only under its
    own: what was sent to its predecessor may have been lost, and nothing may overtake that.
    clock_suspect: many hosts' revs lie in the future, so that our clock is believed wrong.
    claims: shards that the sender owns and wants to speak for, said before their first event: from the
    answer on, persist takes nothing from an earlier owner. Said again whenever log_epoch has changed.
    """

    member: int
    epoch: int
    events: list[Judged] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    cursors: list[HostCursor] = field(default_factory=list)
    observations: list[HostObservation] = field(default_factory=list)
    log_epoch: int = 0
    clock_suspect: bool = False
    claims: list[ShardClaim] = field(default_factory=list)


@dataclass(slots=True)
class Reply:
    """One message from persist to one ingest process.

    log_epoch: rises with each start of persist; when it changed, whatever was not acknowledged
        has to be sent again, in order of position.
    durable_seq: the log's durable head.
    logged: positions that are on disk. duplicate: positions that were already there.
    back: positions to be judged again, each with the newest state of its account.
    refused: the member's epoch has been outlived; the process must end.
    claimed: of the batch's claims, those that hold from now on.
    outlived: shards that a later owner has claimed, with its epoch: nothing that came of them under a
        lower one was taken, and nothing will be; their sender must let go of them.
    """

    log_epoch: int
    durable_seq: int
    logged: list[int] = field(default_factory=list)
    duplicate: list[int] = field(default_factory=list)
    back: list[tuple[int, AccountState]] = field(default_factory=list)
    refused: bool = False
    claimed: list[ShardClaim] = field(default_factory=list)
    outlived: list[ShardClaim] = field(default_factory=list)


class UnknownVersion(ValueError):
    """The other process speaks another version of these messages."""


def encode_batch(batch: Batch) -> list[bytes]:
    """A batch → the parts of its ZeroMQ message."""
    head = cbor2.dumps(
        [
            VERSION,
            batch.member,
            batch.epoch,
            batch.events,
            batch.cursors,
            batch.observations,
            [len(frame) for frame in batch.frames],
            batch.log_epoch,
            batch.clock_suspect,
            batch.claims,
        ]
    )
    return [head, b"".join(batch.frames)]


def decode_batch(parts: list[bytes]) -> Batch:
    """The inverse of `encode_batch`.

    Raises:
        UnknownVersion: the sender is of another release.
    """
    (
        _version, member, epoch, events, cursors, observations, lengths, log_epoch, clock_suspect,
        claims,
    ) = _open(parts[0])  # fmt: skip
    back_to_back = parts[1]
    frames, start = [], 0
    for length in lengths:
        end = start + length
        frames.append(back_to_back[start:end])
        start = end
    return Batch(
        member,
        epoch,
        [_judged(event) for event in events],
        frames,
        [HostCursor(*cursor) for cursor in cursors],
        [HostObservation(*observation) for observation in observations],
        log_epoch,
        clock_suspect,
        [ShardClaim(*claim) for claim in claims],
    )


def encode_reply(reply: Reply) -> list[bytes]:
    """A reply → the parts of its ZeroMQ message."""
    return [
        cbor2.dumps(
            [
                VERSION,
                reply.log_epoch,
                reply.durable_seq,
                reply.logged,
                reply.duplicate,
                reply.back,
                reply.refused,
                reply.claimed,
                reply.outlived,
            ]
        )
    ]


def decode_reply(parts: list[bytes]) -> Reply:
    """The inverse of `encode_reply`.

    Raises:
        UnknownVersion: the sender is of another release.
    """
    (
        _version, log_epoch, durable_seq, logged, duplicate, back, refused, claimed, outlived,
    ) = _open(parts[0])  # fmt: skip
    return Reply(
        log_epoch,
        durable_seq,
        logged,
        duplicate,
        [(position, AccountState(*state)) for position, state in back],
        refused,
        [ShardClaim(*claim) for claim in claimed],
        [ShardClaim(*claim) for claim in outlived],
    )


def _open(head: bytes) -> list[Any]:
    message: list[Any] = cbor2.loads(head)
    if message[0] != VERSION:
        raise UnknownVersion(f"message version {message[0]}, this process speaks {VERSION}")
    return message


def _judged(raw: list[Any]) -> Judged:
    # `_make` costs half of a call with so many arguments.
    raw[8] = Base._make(raw[8])
    raw[9] = AccountState._make(raw[9])
    return Judged._make(raw)
