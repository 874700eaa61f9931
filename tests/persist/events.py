"""Judged events as ingest would send them, for tests that need no signatures."""

from __future__ import annotations

from common.envelope import NEVER_SEEN, AccountState, Judged, Kind, base_of
from persist.outgoing import encode_uint

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
RECEIVED_US = 1_700_000_000_000_000


def did(number: int) -> str:
    """A DID for each number."""
    digits = "".join("abcdefghij"[int(digit)] for digit in f"{number:024d}")
    return f"did:plc:{digits}"


def rev(number: int) -> str:
    """A TID for each number; they rise."""
    digits = "234567abcdefghijklmnopqrstuvwxyz"
    text = ""
    for _ in range(12):
        text = digits[number % 32] + text
        number //= 32
    return "3" + text


def frame_of(upstream_seq: int, fill: int = 40) -> tuple[bytes, int, int]:
    """Some bytes around a CBOR integer `seq`, and where it stands."""
    head = b"\xa2bop\x01at" + b"\xa1cseq"
    number = encode_uint(upstream_seq)
    return head + number + b"x" * fill, len(head), len(head) + len(number)


def judged(
    position: int,
    *,
    account: str = DID,
    state: AccountState = NEVER_SEEN,
    after: AccountState | None = None,
    host: int = 1,
    generation: int = 1,
    upstream_seq: int | None = None,
    recall: int = 0,
    kind: Kind = Kind.COMMIT,
    fill: int = 40,
    marks: int = 0,
    epoch: int = 7,
) -> tuple[Judged, bytes]:
    """One event and its frame. It was judged against `state`, and is a commit over that."""
    upstream_seq = position if upstream_seq is None else upstream_seq
    frame, seq_start, seq_end = frame_of(upstream_seq, fill)
    if after is None:
        after = commit_over(state, position, host)
    event = Judged(
        position=position,
        shard=3,
        epoch=epoch,
        kind=kind,
        host=host,
        generation=generation,
        upstream_seq=upstream_seq,
        did=account,
        base=base_of(state),
        after=after,
        seq_start=seq_start,
        seq_end=seq_end,
        recall=recall,
        received_us=RECEIVED_US,
        marks=marks,
    )
    return event, frame


def commit_over(state: AccountState, number: int, host: int = 1) -> AccountState:
    """The state that a commit leads to."""
    cid = b"\x01\x71\x12\x20" + number.to_bytes(32, "big")
    return AccountState(rev(number), cid, cid, state.active, state.status, host)
