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
    # What this relay has decided (S-ACC-10, S-RAT-07, S-HST-01).
    ACCOUNT_TAKEN_DOWN = "account_taken_down"
    ACCOUNT_THROTTLED = "account_throttled"
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


RULES: Final[dict[DropReason, tuple[str, ...]]] = {
    DropReason.TEXT_FRAME: ("S-FRM-01",),
    DropReason.FRAME_TOO_LARGE: ("S-FRM-12", "S-VAL-07"),
    DropReason.MALFORMED_FRAME: ("S-FRM-09", "S-DAT-01", "S-DAT-02", "S-DAT-03", "S-DAT-10"),
    DropReason.UNKNOWN_OP: ("S-FRM-02", "S-FRM-07"),
    DropReason.UNKNOWN_TYPE: ("S-FRM-07", "S-FRM-13", "S-FRM-14"),
    DropReason.SEQ_INVALID: ("S-SEQ-01", "S-SEQ-08"),
    DropReason.SEQ_NOT_RISING: ("S-SEQ-02", "S-CUR-12"),
    DropReason.FIELD_INVALID: (
        "S-COM-01", "S-COM-14", "S-SYN-01", "S-IDE-01", "S-ACC-01", "S-DAT-06", "S-DAT-09",
        "S-DAT-13", "S-FRM-15",
    ),
    DropReason.DID_INVALID: ("S-IDN-03",),
    DropReason.REV_INVALID: ("S-REV-01", "S-COM-03"),
    DropReason.REV_IN_FUTURE: ("S-VAL-10", "S-REV-04"),
    DropReason.REV_NOT_NEWER: ("S-VAL-09", "S-REV-03", "S-SYN-05", "S-DSY-06"),
    DropReason.BLOCKS_TOO_LARGE: ("S-COM-07", "S-SYN-02", "S-VAL-07"),
    DropReason.TOO_MANY_OPS: ("S-COM-09", "S-VAL-07"),
    DropReason.OP_INVALID: ("S-COM-14", "S-COM-15", "S-COM-16", "S-VAL-16"),
    DropReason.RATE_LIMITED: ("S-SYN-10", "S-IDE-09", "S-ACC-19"),
    DropReason.IDENTITY_NOT_FOUND: ("S-VAL-01", "S-IDN-04", "S-IDN-13"),
    DropReason.IDENTITY_BROKEN: ("S-VAL-01", "S-IDN-05", "S-IDN-06", "S-IDN-07", "S-IDN-08"),
    DropReason.IDENTITY_UNRESOLVED: ("S-VAL-01", "S-IDN-04"),
    DropReason.HOST_NOT_AUTHORITATIVE: (
        "S-VAL-02", "S-AUT-01", "S-AUT-02", "S-AUT-05", "S-ACC-11", "S-ACC-15", "S-SYN-06",
    ),
    DropReason.ACCOUNT_INACTIVE: ("S-VAL-03", "S-ACC-12", "S-ACC-18", "S-SYN-06"),
    DropReason.ACCOUNT_TAKEN_DOWN: ("S-ACC-10", "S-ACC-07", "S-ACC-12"),
    DropReason.ACCOUNT_THROTTLED: ("S-RAT-07", "S-ACC-07", "S-ACC-12"),
    DropReason.CAR_MALFORMED: ("S-MST-11", "S-VAL-08"),
    DropReason.CAR_NO_ROOT: ("S-MST-11", "S-COM-04", "S-SYN-02"),
    DropReason.CAR_BLOCK_MISMATCH: ("S-MST-12", "S-DAT-05"),
    DropReason.COMMIT_MISSING: ("S-COM-04", "S-SYN-02"),
    DropReason.COMMIT_MALFORMED: ("S-MST-01", "S-MST-02", "S-CRY-03", "S-VAL-08"),
    DropReason.COMMIT_MISMATCH: ("S-VAL-05", "S-COM-02", "S-COM-03", "S-COM-04", "S-SYN-03"),
    DropReason.SIGNATURE_INVALID: ("S-VAL-04", "S-SYN-04", "S-IDN-15", "S-CRY-02", "S-CRY-04"),
    DropReason.SYNC_NOT_RESIGNED: ("S-SYN-03",),
    DropReason.CAR_TOO_MANY_BLOCKS: ("S-VAL-19", "S-DAT-10"),
    DropReason.RECORD_MISSING: ("S-VAL-12",),
    DropReason.RECORD_TOO_LARGE: ("S-COM-08", "S-VAL-07", "S-VAL-13"),
    DropReason.RECORD_MALFORMED: ("S-VAL-13", "S-DAT-01"),
    DropReason.NODE_MISSING: ("S-VAL-06", "S-MST-14"),
    DropReason.NODE_MALFORMED: ("S-VAL-08", "S-MST-05", "S-MST-06", "S-VAL-18", "S-DAT-06"),
    DropReason.TREE_MALFORMED: (
        "S-VAL-17", "S-MST-04", "S-MST-07", "S-MST-08", "S-MST-09", "S-MST-10",
    ),
    DropReason.OP_MISMATCH: ("S-VAL-06", "S-COM-15"),
    DropReason.OP_PREV_MISSING: ("S-COM-15", "S-VAL-06"),
    DropReason.PREV_DATA_MISSING: ("S-COM-06", "S-VAL-06"),
    DropReason.PREV_DATA_MISMATCH: ("S-VAL-06", "S-DSY-01"),
    DropReason.DUPLICATE: ("S-CUR-14",),
}  # fmt: skip
"""Every reason → the rules that it enforces, the nearest first; docs/spec.md has them in words."""


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
