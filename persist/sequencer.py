"""Does this event go into the log now, and with which seq?

    fence → meant for us? → state known? → duplicate? → recall → judged against the newest state? → seq

    outlived                its sender, or the owner of its shard, was: not taken, see persist.fence
    no state in memory      the account's events wait, in order, until PostgreSQL has answered
    duplicate               it is in the log, or a newer one of its account from its host is: said so,
                            nothing else
    our own                 has no number at a host; the base alone decides, see persist.duplicates
    recalled or outdated    back to ingest, with the newest state
    one account too many    back too, behind an event of ours that says so
    a host's word of an account that we hold back    logged, and held: see persist.local

What the operator wants of an account (`order`) waits for its state as events do.

What passes joins the group that will be written next. Replies are part of the group: they leave
when it is on disk, not before.

It does not know files, sockets or clocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from common.account_state import counts, state_after, state_held
from common.chunk import ROW, account_key
from common.conservation import Balance
from common.envelope import (
    NEVER_SEEN,
    AccountState,
    Batch,
    HostCursor,
    Judged,
    Kind,
    Mark,
    Reply,
)
from common.syntax import tid_number
from persist.account import Accounts
from persist.duplicates import Duplicates
from persist.fates import Fates
from persist.fence import Fence
from persist.group import Group
from persist.local import Word, marks_of, own_frame
from persist.outgoing import outgoing_head
from persist.quotas import Quotas
from persist.recall import Recalls
from persist.tally import Tallies

GROUP_BYTES: Final = 500_000
"""A group is closed when it reaches this, in bytes; larger only by its last event."""

_SYNC: Final = int(Kind.SYNC)
_IDENTITY: Final = int(Kind.IDENTITY)
_ACCOUNT: Final = int(Kind.ACCOUNT)
_OURS: Final = int(Mark.OURS)
_HELD: Final = int(Mark.HELD)
_pack_row = ROW.pack


class _Waiting:
    """An event whose account is being looked up."""

    __slots__ = ("epoch", "event", "frame", "member", "route")

    def __init__(self, route: bytes, batch: Batch, event: Judged, frame: bytes) -> None:
        self.route = route
        self.member = batch.member
        self.epoch = batch.epoch
        self.event = event
        self.frame = frame


class _Ordered:
    """What is to be said of an account that is being looked up. time_us: when that was heard."""

    __slots__ = ("time_us", "word")

    def __init__(self, word: Word, time_us: int) -> None:
        self.word = word
        self.time_us = time_us


class Sequencer:
    """Gives numbers, in one place.

    wanted: accounts that have to be looked up; the caller takes them from here, asks, and brings
    what it finds to `resolve`. unknown_host: one of them came from a host that the quotas do not know.
    waiting_orders: orders whose account is being looked up.
    """

    def __init__(
        self,
        next_seq: int,
        log_epoch: int,
        accounts: Accounts,
        duplicates: Duplicates,
        recalls: Recalls,
        tallies: Tallies,
        fence: Fence | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        """Args: quotas: None where no host has a limit."""
        self.fates = Fates()
        self._fence = fence or Fence()
        self._quotas = quotas or Quotas()
        self._limited = quotas is not None
        self.unknown_host = False
        self.waiting_orders = 0
        self.next_seq = next_seq
        self._log_epoch = log_epoch
        self.wanted: list[str] = []
        self.group = Group()
        self.waiting_events = 0
        self._accounts = accounts
        self._duplicates = duplicates
        self._recalls = recalls
        self._tallies = tallies
        self._epochs: dict[int, int] = {}
        self._waiting: dict[str, deque[_Waiting | _Ordered]] = {}

    def cut(self) -> Group:
        """The group as it stands; the next event begins a new one."""
        group, self.group = self.group, Group()
        return group

    def balance(self) -> Balance:
        """Where every event is that has come here; not to be asked while a group is being written."""
        return self.fates.balance(
            self._log_epoch,
            held=sum(map(len, self._waiting.values())) - self.waiting_orders,
            in_flight=len(self.group.rows),
        )

    def admit(self, route: bytes, batch: Batch) -> bool:
        """The fence: whether the sender is the newest process of its member number.

        One that was outlived is told so with the next group; one that was not, which of its claims
        hold from now on, once all that was taken of earlier owners is on disk.
        """
        newest = self._epochs.get(batch.member)
        if newest is None or batch.epoch > newest:
            self._epochs[batch.member] = batch.epoch
            self._recalls.forget(batch.member)
        elif batch.epoch < newest:
            self.group.reply(route).refused = True
            self.fates.received += len(batch.events)
            self.fates.refused += len(batch.events)
            return False
        # Every batch is answered, the empty one too: it is a greeting, or a beat.
        reply = self.group.reply(route)
        for claim in batch.claims:
            if self._holds(reply, claim.shard, claim.epoch):
                reply.claimed.append(claim)
        return True

    def cursors(self, route: bytes, batch: Batch) -> list[HostCursor]:
        """Those cursors of an admitted batch that come from the newest owner of their shard."""
        reply = self.group.reply(route)
        return [
            cursor
            for cursor in batch.cursors
            if not cursor.epoch or self._holds(reply, cursor.shard, cursor.epoch)
        ]

    def take(self, route: bytes, batch: Batch) -> Iterator[None]:
        """Put the events of an admitted batch into the group.

        Those that were sent before their sender knew of us are left out: it hears of us by the
        answer to this batch, and then sends everything again in order.

        Yields each time the group is full: the caller then cuts it and has it written.
        """
        fates = self.fates
        if batch.log_epoch != self._log_epoch:
            fates.received += len(batch.events)
            fates.unheard += len(batch.events)
            return
        waiting, accounts = self._waiting, self._accounts
        for event, frame in zip(batch.events, batch.frames, strict=True):
            # One by one: in the midst of a batch its group may be written, and the balance be asked.
            fates.received += 1
            did = event.did
            if did in waiting:
                self._wait(did, _Waiting(route, batch, event, frame))
                continue
            state = accounts.get(did)
            if state is None or not state.host:
                is_stranger = self._is_stranger(event)
            if state is None or (not state.host and is_stranger):
                waiting[did] = deque()
                self.wanted.append(did)
                self._wait(did, _Waiting(route, batch, event, frame))
                continue
            self._sequence(route, batch.member, event, frame, state)
            if self.group.size >= GROUP_BYTES:
                yield

    def order(self, did: str, word: Word, time_us: int) -> None:
        """Say something of an account, unless it is so already. time_us: now, Unix microseconds."""
        state = self._accounts.get(did)
        if did not in self._waiting:
            if state is not None:
                self._obey(did, word, time_us, state)
                return
            self._waiting[did] = deque()
            self.wanted.append(did)
        self._waiting[did].append(_Ordered(word, time_us))
        self.waiting_orders += 1

    def resolve(self, did: str, state: AccountState | None) -> Iterator[None]:
        """Take in what PostgreSQL has of an account, and its events that waited for that.

        Args:
            state: None when there is nothing. Yields as `take` does.
        """
        events = self._waiting[did]
        if self._accounts.get(did) is None:
            self._accounts.learn(did, state or NEVER_SEEN)
        while events:
            waited = events.popleft()
            newest = self._accounts.get(did)
            assert newest is not None
            if isinstance(waited, _Ordered):
                self.waiting_orders -= 1
                self._obey(did, waited.word, waited.time_us, newest)
                continue
            self.waiting_events -= 1
            # An outlived process can use no answer: its successor reads the event again.
            if self._epochs[waited.member] != waited.epoch:
                self.fates.abandoned += 1
                continue
            self._sequence(waited.route, waited.member, waited.event, waited.frame, newest)
            if self.group.size >= GROUP_BYTES:
                yield
        del self._waiting[did]

    def _wait(self, did: str, event: _Waiting) -> None:
        self._waiting[did].append(event)
        self.waiting_events += 1

    def _is_stranger(self, event: Judged) -> bool:
        """Whether an account would become one of a host of which no limit is known yet."""
        if event.kind == _IDENTITY or event.host in self._quotas or not self._limited:
            return False
        self.unknown_host = True
        return True

    def _obey(self, did: str, word: Word, time_us: int, state: AccountState) -> None:
        # S-RAT-07: the room may have gone to another meanwhile.
        if word is not Word.RELEASE or not self._quotas.is_full(state.host):
            self._say(did, word, time_us, state, state.host)

    def _say(
        self, did: str, word: Word, time_us: int, state: AccountState, host: int
    ) -> AccountState:
        """Put an `#account` event of ours into the group; the state from there on. S-ACC-09."""
        marks = marks_of(state, word)
        if marks is None:
            return state
        group, seq = self.group, self.next_seq
        self.next_seq = seq + 1
        after = state_held(state, host, marks)
        frame = own_frame(did, after, seq, time_us)
        group.rows.append(
            _pack_row(
                group.size, len(frame), _ACCOUNT, marks, 0, after.host, 0, 0, 0, 0, time_us, 0,
                account_key(did),
            )
        )  # fmt: skip
        group.frames.append(frame)
        group.size += len(frame)
        group.kinds[_ACCOUNT] += 1
        if word is Word.TAKE_DOWN or word is Word.REVERSE:
            group.hides[did] = seq if word is Word.TAKE_DOWN else 0
        self.fates.said += 1
        self._move(state, after)
        self._accounts.change(did, after, seq)
        return after

    def _move(self, before: AccountState, after: AccountState) -> None:
        for host, by in self._quotas.move(before, after):
            self._tallies.count(host, by)

    def _is_one_too_many(self, event: Judged, state: AccountState) -> bool:
        """Whether an account would become one of a host's that has as many as it may."""
        kind, ours = event.kind, event.marks & _OURS
        if not state.host:
            return kind != _IDENTITY and not ours and self._quotas.is_full(event.host)
        if counts(state) or state.over_limit:
            return False
        # Deleted accounts take no room, so those that come back could be any number.
        after = state_after(state, kind, event.after, event.host, event.marks)
        return bool(counts(after)) and self._quotas.is_full(after.host)

    def _holds(self, reply: Reply, shard: int, epoch: int) -> bool:
        """Whether who speaks for the shard is its newest owner; the reply tells one that is not."""
        if self._fence.passes(shard, epoch):
            return True
        known = self._fence.known(shard)
        if known not in reply.outlived:
            reply.outlived.append(known)
        return False

    def _sequence(
        self, route: bytes, member: int, event: Judged, frame: bytes, state: AccountState
    ) -> None:
        group, fates = self.group, self.fates
        reply = group.replies.get(route) or group.reply(route)
        # What waited for its account is looked at again here: its shard may have been claimed since.
        epoch = event.epoch
        if self._fence.epochs.get(event.shard) != epoch and not self._holds(
            reply, event.shard, epoch
        ):
            fates.outlived += 1
            return
        host = event.host
        stream = self._duplicates.stream(host, event.generation)
        upstream_seq = event.upstream_seq
        marks = event.marks
        did = event.did
        account = account_key(did)
        if (
            self._duplicates.has_ours(host, epoch, event.position)
            if marks & _OURS
            else stream.has(upstream_seq, account)
        ):
            reply.duplicate.append(event.position)
            fates.duplicate += 1
            return
        if self._recalls and not self._recalls.passes(member, did, event.recall):
            reply.back.append((event.position, state))
            fates.back += 1
            return
        # S-AUT-07. What a verdict was reached against, field by field: see common.envelope.base_of.
        base = event.base
        if (
            base.rev != state.rev
            or base.commit != state.commit
            or base.host != state.host
            or base.active != state.active
            or base.local != state.local
        ):
            self._recalls.sent_back(member, did, event.recall)
            reply.back.append((event.position, state))
            fates.back += 1
            return
        kind = event.kind
        if (not state.host or kind == _ACCOUNT) and self._is_one_too_many(event, state):
            # S-RAT-07. Its first event, which would have made it one of the host's; or it was deleted there.
            state = self._say(did, Word.THROTTLE, event.received_us, state, host)
            self._recalls.sent_back(member, did, event.recall)
            reply.back.append((event.position, state))
            fates.back += 1
            return
        seq = self.next_seq
        self.next_seq = seq + 1
        # What the base does not name may be out of date in the sender's copy, or unknown to it.
        after = state_after(state, kind, event.after, host, marks)
        if kind == _ACCOUNT or after.host != state.host:
            if state.local is not None and kind == _ACCOUNT:
                # S-ACC-07, S-ACC-08: it counts, and what we have said ourselves stands above it.
                marks |= _HELD
            self._move(state, after)
        head, length = outgoing_head(frame, event.seq_start, event.seq_end, seq)
        group.rows.append(
            _pack_row(
                group.size,
                length,
                kind,
                marks,
                event.shard,
                host,
                event.generation,
                upstream_seq,
                epoch,
                event.position,
                event.received_us,
                tid_number(after.rev) if after.rev and kind <= _SYNC else 0,
                account,
            )
        )
        group.frames += (head, memoryview(frame)[event.seq_end :])
        group.size += length
        group.kinds[kind] += 1
        if marks & _OURS:
            self._duplicates.add_ours(host, epoch, event.position)
        else:
            stream.add(upstream_seq, account, seq)
        if marks:
            self._tallies.add(host, marks)
        self._accounts.change(did, after, seq)
        reply.logged.append(event.position)
