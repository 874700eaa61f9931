"""ingest.rejects: which dropped messages are kept, and which have to go when there are too many."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from common.envelope import Kind
from common.event import Event, decode
from common.reject import Reject
from common.syntax import Did, Tid
from common.verdict import Drop, DropReason
from ingest.rejects import (
    ACCOUNT_MOST,
    ACCOUNT_WITHIN_S,
    HOST_FRAME_BYTES,
    REASON_BURST,
    REASON_EVERY_S,
    ROW_BYTES,
    TAKEN_BYTES,
    TAKEN_ROWS,
    WAITING_BYTES,
    WAITING_ROWS,
    Claim,
    Ledger,
    Tally,
    bytes_of,
    claim_of,
    worth,
)
from tests.simnet.clock import Clock
from tests.simnet.config import NetworkConfig
from tests.simnet.invalid import BAD_MESSAGES, INVALID
from tests.simnet.network import Network
from tests.simnet.source import Source

FOREIGN = DropReason.HOST_NOT_AUTHORITATIVE
RARE = DropReason.PREV_DATA_MISMATCH
NOW_S = 1_700_000_000.0


def did(number: int) -> Did:
    return Did(f"did:plc:{number:024d}".translate(str.maketrans("0189", "abcd")))


def event_of(account: int, raw: bytes = b"frame", seq: int = 7) -> Event:
    event = Event(raw, Kind.COMMIT, did(account), seq, 0, 1, "")
    event.rev = Tid("3l2gkqkqxcc2a")
    return event


def note(
    ledger: Ledger,
    account: int,
    reason: DropReason = FOREIGN,
    *,
    host: int = 1,
    now_s: float = NOW_S,
    raw: bytes = b"frame",
) -> None:
    ledger.note(host, Drop(reason, "why", 7), event_of(account, raw), raw, now_s)


def test_a_drop_is_kept_with_all_that_its_operator_will_ask() -> None:
    ledger = Ledger()
    ledger.note(3, Drop(RARE, "prevData is\0not \ud800", 9), event_of(1, b"abc", 9), b"abc", NOW_S)
    detail = "prevData is\N{REPLACEMENT CHARACTER}not ?"
    assert ledger.take() == [
        Reject(3, NOW_S, RARE, detail, "commit", did(1), "3l2gkqkqxcc2a", 9, 3, b"abc")
    ]
    assert ledger.take() == []
    assert ledger.waiting_bytes == 0


def test_what_is_in_the_log_already_is_no_reject_and_other_replays_are() -> None:
    ledger = Ledger()
    for reason in (DropReason.DUPLICATE, DropReason.REV_NOT_NEWER, DropReason.SEQ_NOT_RISING):
        note(ledger, 1, reason)
    assert [reject.reason for reject in ledger.take()] == [
        DropReason.REV_NOT_NEWER, DropReason.SEQ_NOT_RISING,
    ]  # fmt: skip
    assert ledger.counts.passed_over == 0


def test_every_drop_is_counted_kept_or_not_and_no_replay_of_what_is_in_the_log() -> None:
    ledger = Ledger()
    for number in range(1000):
        note(ledger, 1, now_s=NOW_S + number / 1000)
    note(ledger, 1, RARE, now_s=NOW_S - 5)
    note(ledger, 1, host=0)
    note(ledger, 1, DropReason.DUPLICATE)
    tallies = [Tally(0, FOREIGN, 1, NOW_S), Tally(1, FOREIGN, 1000, NOW_S + 0.999)]
    taken = ledger.take_tally()
    assert sorted(taken) == sorted([*tallies, Tally(1, RARE, 1, NOW_S - 5)])
    assert ledger.take_tally() == []
    # What could not be written adds up with what came since.
    note(ledger, 1, now_s=NOW_S + 7)
    ledger.give_back_tally(taken)
    assert Tally(1, FOREIGN, 1001, NOW_S + 7) in ledger.take_tally()


def test_a_flood_of_one_reason_takes_its_own_share_and_no_other() -> None:
    ledger = Ledger()
    for number in range(10_000):
        note(ledger, number, now_s=NOW_S + number / 1000)
    note(ledger, 1, RARE, now_s=NOW_S + 10)
    note(ledger, 1, FOREIGN, host=2, now_s=NOW_S + 10)
    found = Counter((reject.host, reject.reason) for reject in ledger.take())
    assert found == {
        (1, FOREIGN): REASON_BURST + 10 // REASON_EVERY_S - 1, (1, RARE): 1, (2, FOREIGN): 1,
    }  # fmt: skip
    assert ledger.counts.passed_over == 10_000 - found[1, FOREIGN]


def test_a_flood_of_one_account_leaves_room_for_the_others_of_its_host() -> None:
    ledger = Ledger()
    for _ in range(1000):
        note(ledger, 1)
    for number in range(2, 6):
        note(ledger, number)
    found = Counter(reject.did for reject in ledger.take())
    assert found == {did(1): ACCOUNT_MOST, **{did(number): 1 for number in range(2, 6)}}
    note(ledger, 1, now_s=NOW_S + ACCOUNT_WITHIN_S + 1)
    assert len(ledger) == 1


def test_a_share_fills_again_with_time_and_no_further_than_it_was() -> None:
    ledger = Ledger()

    def admitted(now_s: float) -> int:
        before = len(ledger)
        for number in range(100):
            note(ledger, int(now_s) * 100 + number, now_s=now_s)
        return len(ledger) - before

    assert admitted(NOW_S) == REASON_BURST
    assert admitted(NOW_S + 3 * REASON_EVERY_S) == 3
    assert admitted(NOW_S + 9 * REASON_EVERY_S) == 6
    assert admitted(NOW_S - 1000) == 0
    assert admitted(NOW_S - 1000 + REASON_EVERY_S) == 1
    assert admitted(NOW_S + 1_000_000) == REASON_BURST


def test_frames_of_a_host_beyond_its_bytes_are_not_kept_but_their_rows_are() -> None:
    ledger = Ledger()
    large = bytes(HOST_FRAME_BYTES // 2 + 1)
    note(ledger, 1, raw=large)
    note(ledger, 2, raw=large)
    note(ledger, 3, raw=b"small")
    note(ledger, 4, raw=large, host=2)
    found = [*ledger.take(), *ledger.take()]
    kept = {(reject.did, reject.size, reject.frame is not None) for reject in found}
    assert kept == {
        (did(1), len(large), True), (did(2), len(large), False), (did(3), 5, True),
        (did(4), len(large), True),
    }  # fmt: skip
    note(ledger, 5, raw=large, now_s=NOW_S + 3600)
    assert ledger.take()[0].frame == large


def test_what_waits_is_bounded_and_thinned_by_what_is_repeated_most() -> None:
    ledger = Ledger()
    note(ledger, 0, RARE)
    # Hours of an outage: every host at its full rate, one of them for many more reasons.
    reasons = [reason for reason in DropReason if reason not in (RARE, DropReason.DUPLICATE)]
    for minute in range(200):
        now_s = NOW_S + minute * 60
        for number, reason in enumerate(reasons):
            note(ledger, minute, reason, host=1, now_s=now_s)
            note(ledger, minute, FOREIGN, host=2 + number % 3, now_s=now_s)
        assert len(ledger) <= WAITING_ROWS
    rejects = []
    while taken := ledger.take():
        assert len(taken) <= TAKEN_ROWS
        rejects += taken
    assert [reject.did for reject in rejects if reject.reason is RARE] == [did(0)]
    assert [reject.at_s for reject in rejects] == sorted(reject.at_s for reject in rejects)
    of_host = Counter(reject.host for reject in rejects)
    # Each host has the same right, and none of them has more than it said.
    assert set(of_host) == {1, 2, 3, 4}
    assert min(of_host.values()) > 150
    assert ledger.counts.lost > 1000
    assert ledger.waiting_bytes == 0


def test_what_waits_is_bounded_in_bytes_too() -> None:
    ledger = Ledger()
    for host in range(100):
        note(ledger, 1, host=host, raw=bytes(1_000_000))
        assert ledger.waiting_bytes <= WAITING_BYTES
    assert len(ledger) == 100
    sizes = []
    while taken := ledger.take():
        sizes.append(sum(map(bytes_of, taken)))
    assert max(sizes) <= TAKEN_BYTES
    assert sum(sizes) > WAITING_BYTES / 2


def test_a_row_larger_than_what_is_written_at_once_is_written_alone() -> None:
    ledger = Ledger()
    note(ledger, 1, raw=bytes(TAKEN_BYTES - ROW_BYTES))
    note(ledger, 2)
    assert [len(ledger.take()), len(ledger.take())] == [1, 1]


def test_what_could_not_be_written_comes_again_first() -> None:
    ledger = Ledger()
    for number in range(5):
        note(ledger, number)
    taken = ledger.take()
    note(ledger, 9)
    waiting_bytes = ledger.waiting_bytes
    ledger.give_back(taken)
    assert ledger.waiting_bytes == waiting_bytes + sum(map(bytes_of, taken))
    assert [reject.did for reject in ledger.take()] == [did(n) for n in (0, 1, 2, 3, 4, 9)]


def test_shares_are_forgotten_once_they_are_full_again() -> None:
    ledger = Ledger()
    for host in range(10_000):
        note(ledger, 1, host=host, now_s=NOW_S + host)
        if host % 100 == 0:
            while ledger.take():
                pass
    assert len(ledger._shares) < 2000
    assert len(ledger._bytes) < 3000


def test_a_drop_over_its_share_costs_next_to_nothing() -> None:
    ledger = Ledger()
    drop = Drop(DropReason.OP_INVALID, "why", 7)
    raw = bytes(2_000_000)
    began_s = time.perf_counter()
    for _ in range(10_000):
        ledger.note(1, drop, None, raw, NOW_S)
    assert time.perf_counter() - began_s < 1.0
    assert ledger.counts.passed_over == 10_000 - REASON_BURST


def test_the_order_of_worth_alternates_hosts_reasons_and_accounts() -> None:
    def reject(host: int, reason: DropReason, account: int) -> Reject:
        return Reject(host, 0.0, reason, "", None, did(account), None, None, 0, None)

    rejects = [
        reject(1, RARE, 1),     # 0: the only one of its kind
        reject(1, FOREIGN, 1),  # 1: the only one of its account
        reject(1, FOREIGN, 2),  # 2
        reject(1, FOREIGN, 2),  # 3
        reject(1, FOREIGN, 2),  # 4
        reject(2, FOREIGN, 2),  # 5: the only one of its host
    ]  # fmt: skip
    assert worth(rejects) == [5, 4, 0, 1, 3, 2]
    assert worth([]) == []


# --- messages that are no events ---


@pytest.fixture(scope="module")
def source() -> Source:
    network = Network(NetworkConfig(hosts=1, accounts=0))
    network._make_hosts()
    account = network._add_account(1, filled=True)
    return Source(account, network.rng, Clock(None))


@pytest.mark.parametrize("name", ["bad_op", "field_missing", "too_many_ops", "big_blocks"])
def test_whose_commit_it_was_is_read_though_it_is_none(name: str, source: Source) -> None:
    raw = INVALID[name].make(source).frame(11)
    drop = decode(raw)
    assert isinstance(drop, Drop)
    claim = claim_of(raw, drop)
    assert claim == Claim("commit", Did(source.account.did), claim.rev, 11)
    assert claim.rev is not None


def test_what_is_not_legible_is_not_guessed(source: Source) -> None:
    for name, kind in (
        ("removed_type", None),
        ("unknown_op", "identity"),
        ("repo_is_no_did", "commit"),
    ):
        raw = INVALID[name].make(source).frame(11)
        drop = decode(raw)
        assert isinstance(drop, Drop)
        claim = claim_of(raw, drop)
        assert (claim.kind, claim.did) == (
            kind, None if name == "repo_is_no_did" else source.account.did,
        )  # fmt: skip
    event = INVALID["field_missing"].make(source)
    for name in ("torn_frame", "trailing_byte", "no_cbor", "explosive"):
        bad = BAD_MESSAGES[name].make(event, 11)
        assert isinstance(bad, bytes)
        claim = claim_of(bad, Drop(DropReason.MALFORMED_FRAME, "", 0))
        legible = name == "trailing_byte"
        assert claim.did == (source.account.did if legible else None)
        assert claim.seq is None
    assert claim_of(b"", Drop(DropReason.TEXT_FRAME)) == Claim(None, None, None, None)
