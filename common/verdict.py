"""What becomes of an event: passed on, or dropped for one of a closed list of reasons.

A `DropReason` is at once the metric label, the log field and the scenario's name. The list is
closed, so that a label never carries what a host can choose.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class DropReason(StrEnum):
    """Why an event went no further. Each has a scenario in the tests and a line in docs/."""

    # The message itself (S-FRM, S-DAT).
    TEXT_FRAME = "text_frame"
    FRAME_TOO_LARGE = "frame_too_large"
    MALFORMED_FRAME = "malformed_frame"
    UNKNOWN_OP = "unknown_op"
    UNKNOWN_TYPE = "unknown_type"
    # Its place in the host's stream (S-CUR, S-SEQ).
    SEQ_INVALID = "seq_invalid"
    SEQ_NOT_RISING = "seq_not_rising"
    # Its fields (S-COM, S-SYN, S-IDE, S-ACC).
    FIELD_INVALID = "field_invalid"
    DID_INVALID = "did_invalid"
    REV_INVALID = "rev_invalid"
    REV_IN_FUTURE = "rev_in_future"
    REV_NOT_NEWER = "rev_not_newer"
    BLOCKS_TOO_LARGE = "blocks_too_large"
    TOO_MANY_OPS = "too_many_ops"
    OP_INVALID = "op_invalid"
    RATE_LIMITED = "rate_limited"
    # Who it speaks for (S-IDN, S-AUT, S-ACC).
    IDENTITY_NOT_FOUND = "identity_not_found"
    IDENTITY_BROKEN = "identity_broken"
    IDENTITY_UNRESOLVED = "identity_unresolved"
    HOST_NOT_AUTHORITATIVE = "host_not_authoritative"
    ACCOUNT_INACTIVE = "account_inactive"
    # What it carries (S-MST, S-CRY, S-VAL).
    CAR_MALFORMED = "car_malformed"
    CAR_NO_ROOT = "car_no_root"
    CAR_BLOCK_MISMATCH = "car_block_mismatch"
    COMMIT_MISSING = "commit_missing"
    COMMIT_MALFORMED = "commit_malformed"
    COMMIT_MISMATCH = "commit_mismatch"
    SIGNATURE_INVALID = "signature_invalid"
    SYNC_NOT_RESIGNED = "sync_not_resigned"
    CAR_TOO_MANY_BLOCKS = "car_too_many_blocks"
    RECORD_MISSING = "record_missing"
    RECORD_TOO_LARGE = "record_too_large"
    RECORD_MALFORMED = "record_malformed"
    # What its tree says (S-MST, S-VAL-06, S-VAL-17).
    NODE_MISSING = "node_missing"
    NODE_MALFORMED = "node_malformed"
    TREE_MALFORMED = "tree_malformed"
    OP_MISMATCH = "op_mismatch"
    OP_PREV_MISSING = "op_prev_missing"
    PREV_DATA_MISSING = "prev_data_missing"
    PREV_DATA_MISMATCH = "prev_data_mismatch"
    # At the sequencer.
    DUPLICATE = "duplicate"


WAIVABLE: Final = frozenset(
    {
        DropReason.NODE_MISSING,
        DropReason.OP_PREV_MISSING,
        DropReason.PREV_DATA_MISSING,
        DropReason.PREV_DATA_MISMATCH,
    }
)
"""What a host at the level `observe` is let through with: failures of the inversion alone."""


class Level(StrEnum):
    """How strictly a host is judged. Nothing becomes OBSERVE by itself."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Drop(NamedTuple):
    """A message goes no further.

    detail: in words, for the log; never a label. seq: the host's number, 0 when it has none.
    """

    reason: DropReason
    detail: str = ""
    seq: int = 0
