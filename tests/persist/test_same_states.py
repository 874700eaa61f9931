"""Does the log's tail, read again, lead to the very states that sequencing had reached?

A random stream of real frames is sequenced; PostgreSQL has the states of some flush, or of none,
when everything else is lost. What is replayed over that must be what was in memory.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from common.chunk import Chunk, ChunkKind, join_chunk
from common.envelope import NEVER_SEEN, AccountState, Batch, Judged, Kind, Mark
from persist.account import Accounts
from persist.duplicates import Duplicates
from persist.recall import Recalls
from persist.replay import open_chunk, replay
from persist.sequencer import Sequencer
from persist.tally import HostTally, Tallies
from tests.persist.spoken import Spoken, judged_over, life

LIVES = [life(name) for name in ("alice", "bob")]
DIDS = [one[0].event(1).did for one in LIVES]
ROUTE = b"ingest-0"
CONTENT_MARKS = [0, 0, 0, Mark.DISCONTINUOUS, Mark.WAIVED, Mark.DISCONTINUOUS | Mark.WAIVED, 0x80]

steps = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "say", "miss", "flush"]),
        st.integers(0, 1),  # whose
        st.integers(1, 2),  # host
        st.sampled_from(CONTENT_MARKS),
        st.booleans(),  # its sender knows all of the state
    ),
    max_size=60,
)


class Relay:
    """Persist without a disk: a sequencer, its log as chunks, and what PostgreSQL has."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.tallies = Tallies()
        self.duplicates = Duplicates()
        self.sequencer = Sequencer(1, 1, self.accounts, self.duplicates, Recalls(), self.tallies)
        self.chunks: list[Chunk] = []
        self.flushed: list[tuple[int, dict[str, AccountState]]] = [(0, {})]
        self.counted: list[HostTally] = []
        for did in DIDS:
            self.accounts.learn(did, NEVER_SEEN)

    def state(self, did: str) -> AccountState:
        state = self.accounts.get(did)
        assert state is not None
        return state

    def log(self, event: Judged, frame: bytes) -> None:
        first_seq = self.sequencer.next_seq
        batch = Batch(0, 1, [event], [frame], log_epoch=1)
        assert self.sequencer.admit(ROUTE, batch)
        list(self.sequencer.take(ROUTE, batch))
        group = self.sequencer.cut()
        assert group.replies[ROUTE].logged == [event.position]
        self.chunks.append(
            join_chunk(
                ChunkKind.GROUP, 1, first_seq, 0, 0, len(group.rows), group.rows, group.frames
            )
        )

    def flush(self) -> None:
        known = dict(self.flushed[-1][1])
        known |= {did: state for did, _seq, state in self.accounts.begin_flush()}
        self.accounts.end_flush()
        self.flushed.append((self.sequencer.next_seq - 1, known))
        self.counted += self.tallies.take()


def marks_of(one: Spoken, wanted: int) -> int:
    kind = one.event(1).kind
    if kind is Kind.ACCOUNT:
        return int(Mark.OURS) if wanted & Mark.WAIVED else 0
    return wanted if kind is Kind.COMMIT else wanted & 0x80


@settings(max_examples=150, deadline=None)
@given(steps)
def test_replay_from_any_flush_leads_to_the_states_that_sequencing_had(
    story: list[tuple[str, int, int, int, bool]],
) -> None:
    relay = Relay()
    left = [list(one) for one in LIVES]
    for position, (what, whose, host, wanted, knows) in enumerate(story, 1):
        if what == "flush":
            relay.flush()
        elif left[whose]:
            one = left[whose].pop(0)
            if what == "say":
                state = relay.state(DIDS[whose])
                # One that has begun anew knows of a state only what its next verdict names.
                begun_anew = state._replace(
                    status=None, desynchronized=False, discontinuities=0, data=None
                )
                told = judged_over(
                    one, state, position, knows=state if knows else begun_anew, host=host,
                    marks=marks_of(one, wanted),
                )  # fmt: skip
                event, frame = told
                if not knows:
                    # Nor does its belief about whose word counts make it so.
                    event = event._replace(after=event.after._replace(host=99))
                relay.log(event, frame)
    newest = {did: relay.state(did) for did in DIDS}
    for applied_seq, known in relay.flushed:
        tail = [each for chunk in relay.chunks for each in open_chunk(chunk, applied_seq)]
        replayed = dict(known)
        for did, _seq, state in replay(tail, lambda dids, had=known: _found(had, dids)):  # type: ignore[misc]
            replayed[did] = state
        assert {did: replayed.get(did, NEVER_SEEN) for did in DIDS} == newest
    # And each mark was counted once, for its own host.
    relay.flush()
    rows = [row for chunk in relay.chunks for row in chunk.rows()]
    for mark, at in ((Mark.DISCONTINUOUS, 1), (Mark.WAIVED, 2)):
        for host in (1, 2):
            seen = sum(bool(row.flags & mark) for row in rows if row.host == host)
            assert sum(tally[at] for tally in relay.counted if tally.host == host) == seen


def _found(known: dict[str, AccountState], dids: list[str]) -> dict[str, AccountState]:
    return {did: known[did] for did in dids if did in known}
