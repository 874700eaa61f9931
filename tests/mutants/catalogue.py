"""Which modules are tried, with how many mutants of the tool, and by which tests?

Only quick tests: those of the module itself first, then those of the rules that it obeys.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.mutants.by_hand import BUGS
from tests.mutants.by_tool import mutants_of
from tests.mutants.mutant import Mutant, located, source_of


class Target(NamedTuple):
    """drawn: how many mutants the tool makes. tests: in the order in which they are tried."""

    drawn: int
    tests: tuple[str, ...]


_SPEC: Final = "tests/spec"
_JUDGE: Final = (
    "tests/ingest/test_judge.py", "tests/ingest/test_judge_reasons.py", _SPEC,
    "tests/ingest/test_checked.py",
)  # fmt: skip
_TREE: Final = (
    "tests/spec/test_repository.py", "tests/spec/test_commit_validation.py",
    "tests/ingest/test_node.py", "tests/ingest/test_judge_reasons.py", _SPEC,
    "tests/ingest/test_inversion.py",
)  # fmt: skip
_PIPELINE: Final = ("tests/ingest/test_pipeline.py", _SPEC)
_FAIR: Final = "tests/ingest/test_fairness.py"
_POINTS: Final = ("tests/chaos/test_points.py",)

TARGETS: Final[dict[str, Target]] = {
    "ingest/judge.py": Target(6, _JUDGE),
    "ingest/steps.py": Target(12, _JUDGE),
    "ingest/inversion.py": Target(6, _TREE),
    "ingest/tree.py": Target(14, (*_TREE, "tests/ingest/test_node_memory.py")),
    "ingest/node_memory.py": Target(
        8, ("tests/ingest/test_node_memory.py", "tests/ingest/test_judge_memory.py", _SPEC)
    ),
    "ingest/node.py": Target(12, _TREE),
    "ingest/records.py": Target(3, _JUDGE),
    "common/event.py": Target(7, ("tests/common/test_event.py", *_JUDGE)),
    "common/commit_payload.py": Target(5, ("tests/common/test_event.py", _SPEC)),
    "common/commit.py": Target(5, ("tests/common/test_commit.py", *_JUDGE)),
    "common/car.py": Target(5, ("tests/common/test_car.py", *_JUDGE)),
    "common/cid.py": Target(
        2, ("tests/common/test_cid.py", "tests/interop/test_syntax_vectors.py", _SPEC)
    ),
    "common/syntax.py": Target(
        5, ("tests/common/test_syntax.py", "tests/interop/test_syntax_vectors.py", _SPEC)
    ),
    "common/account_state.py": Target(
        2, ("tests/persist/test_quotas.py", *_JUDGE, "tests/persist/test_same_states.py")
    ),
    "ingest/signature.py": Target(
        5, ("tests/ingest/test_signature.py", "tests/interop/test_crypto_vectors.py", _SPEC)
    ),
    "ingest/did_document.py": Target(
        7, ("tests/ingest/test_did_document.py", "tests/spec/test_authority.py")
    ),
    "ingest/directory.py": Target(4, ("tests/ingest/test_directory.py",)),
    "ingest/outage.py": Target(3, ("tests/ingest/test_outage.py",)),
    "ingest/questions.py": Target(3, ("tests/ingest/test_questions.py",)),
    "ingest/documents.py": Target(3, ("tests/ingest/test_documents.py",)),
    "ingest/account.py": Target(3, ("tests/ingest/test_account.py", *_PIPELINE)),
    "ingest/pipeline.py": Target(6, (*_PIPELINE, "tests/ingest/test_release.py")),
    "ingest/settling.py": Target(8, (*_PIPELINE, "tests/ingest/test_needs.py", _FAIR)),
    "ingest/in_flight.py": Target(2, _PIPELINE),
    "ingest/outlet.py": Target(0, ("tests/ingest/test_outlet.py",)),
    "ingest/limiter.py": Target(4, ("tests/ingest/test_limiter.py",)),
    "ingest/fairness.py": Target(4, ("tests/ingest/test_fairness.py",)),
    "ingest/lifecycle.py": Target(4, ("tests/ingest/hostbench/test_transitions.py",)),
    "ingest/dials.py": Target(4, ("tests/ingest/test_dialer.py", "tests/ingest/test_moved.py")),
    "ingest/turns.py": Target(0, ("tests/ingest/test_turns.py",)),
    "ingest/waiting.py": Target(8, ("tests/ingest/test_waiting.py", *_PIPELINE)),
    "common/rates.py": Target(4, ("tests/ingest/test_rates.py", *_PIPELINE)),
    "ingest/clock.py": Target(6, ("tests/ingest/test_clock.py", *_PIPELINE)),
    "ingest/inquiry.py": Target(4, ("tests/ingest/test_inquiry.py", *_PIPELINE)),
    "ingest/status.py": Target(3, ("tests/ingest/test_status.py",)),
    "persist/sequencer.py": Target(
        6,
        (
            "tests/persist/test_sequencer.py",
            "tests/persist/test_ours.py",
            "tests/persist/test_local.py",
            _SPEC,
            "tests/persist/test_fence.py",
            "tests/persist/test_balance.py",
        ),
    ),
    "persist/group.py": Target(2, ("tests/persist/test_sequencer.py",)),
    "persist/fates.py": Target(
        3, ("tests/persist/test_sequencer.py", "tests/persist/test_balance.py")
    ),
    "persist/account.py": Target(4, ("tests/persist/test_account.py",)),
    "persist/recall.py": Target(
        2, ("tests/persist/test_recall.py", "tests/persist/test_sequencer.py")
    ),
    "persist/replay.py": Target(
        3, ("tests/persist/test_replay.py", "tests/persist/test_same_states.py")
    ),
    # By hand alone: each run of these tests starts persist some thirty times.
    "persist/worker.py": Target(0, _POINTS),
    "persist/segment_log.py": Target(0, _POINTS),
    "persist/catch_up.py": Target(0, ("tests/persist/test_fence.py", *_POINTS)),
    "persist/duplicates.py": Target(5, ("tests/persist/test_duplicates.py", *_POINTS)),
    "persist/checkpoint_file.py": Target(0, _POINTS),
    "common/process.py": Target(0, ("tests/running/test_process.py",)),
    "persist/tally.py": Target(2, ("tests/persist/test_tally.py",)),
    "common/conservation.py": Target(5, ("tests/common/test_conservation.py",)),
    "ingest/subscription.py": Target(0, ("tests/ingest/test_balance.py",)),
    "ingest/counts.py": Target(2, ("tests/ingest/test_counts.py", "tests/ingest/test_balance.py")),
    "persist/fence.py": Target(3, ("tests/persist/test_fence.py",)),
    "ingest/share.py": Target(7, ("tests/ingest/test_share.py",)),
    "ingest/lease_table.py": Target(0, ("tests/ingest/test_lease_table.py",)),
    "persist/quotas.py": Target(5, ("tests/persist/test_quotas.py",)),
    "persist/wishes.py": Target(4, ("tests/persist/test_wishes.py",)),
    "persist/gate.py": Target(0, ("tests/persist/test_gate.py",)),
    "persist/inlet.py": Target(0, ("tests/persist/test_gate.py",)),
    "common/owner.py": Target(1, ("tests/common/test_owner.py",)),
    "ingest/asker.py": Target(0, ("tests/ingest/test_asker.py",)),
    "broadcast/hole.py": Target(
        3, ("tests/broadcast/test_hole.py", "tests/broadcast/test_gaps.py")
    ),
    "broadcast/ring.py": Target(3, ("tests/broadcast/test_ring.py",)),
    "broadcast/admin_gate.py": Target(3, ("tests/broadcast/test_admin_gate.py",)),
    "broadcast/crawl.py": Target(3, ("tests/broadcast/test_crawl.py",)),
    "broadcast/curtain.py": Target(0, ("tests/broadcast/test_curtain.py",)),
    "broadcast/playback.py": Target(0, ("tests/broadcast/test_gaps.py",)),
    "broadcast/damage.py": Target(1, ("tests/broadcast/test_damage.py",)),
    "broadcast/inlet.py": Target(
        0,
        (
            "tests/broadcast/test_balance.py",
            "tests/broadcast/test_gaps.py",
            "tests/broadcast/test_seam.py",
        ),
    ),
    "broadcast/server.py": Target(0, ("tests/broadcast/test_restarts.py",)),
    "common/command/balance.py": Target(0, ("tests/running/test_report.py",)),
    "broadcast/fanout.py": Target(0, ("tests/broadcast/test_seam.py",)),
    "common/log_walk.py": Target(
        0, ("tests/common/test_log_walk.py", "tests/persist/test_verify.py")
    ),
    "common/hidden.py": Target(4, ("tests/common/test_hidden.py",)),
    "common/names.py": Target(0, ("tests/common/test_names.py",)),
    "common/logged.py": Target(0, ("tests/persist/test_verify.py",)),
    "persist/known.py": Target(6, ("tests/persist/test_known.py", "tests/persist/test_verify.py")),
    "persist/verify.py": Target(0, ("tests/persist/test_verify.py",)),
    "persist/store.py": Target(0, ("tests/persist/test_store_cut.py",)),
    "persist/checkpoint.py": Target(3, ("tests/persist/test_checkpoint.py",)),
    "persist/retention.py": Target(3, ("tests/persist/test_retention.py",)),
    "common/salvage.py": Target(5, ("tests/common/test_salvage.py", "tests/common/test_damage.py")),
    "common/segment_index.py": Target(
        3, ("tests/common/test_segments.py", "tests/common/test_damage.py")
    ),
}


def all_mutants() -> list[Mutant]:
    """Those by hand, then those by the tool, in the order of the targets.

    Raises:
        tests.mutants.mutant.Stale: one by hand fits no more.
    """
    by_hand = [located(bug, source_of(bug.path)) for bug in BUGS]
    by_tool = [mutant for path, (count, _) in TARGETS.items() for mutant in mutants_of(path, count)]
    return by_hand + by_tool


def tests_of(path: str) -> tuple[str, ...]:
    """The tests that are run for a mutant of this file."""
    return TARGETS[path].tests
