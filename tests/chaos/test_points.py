"""What is lost when persist is killed exactly at one step of its work? Nothing, at any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.chaos.points import Order, Point
from tests.chaos.story import Story, one_each

GROUP: Final = (
    Order(Point.WRITTEN, 3),
    Order(Point.SYNCED, 3),
    Order(Point.ANNOUNCED, 3),
    Order(Point.PUBLISHED, 3),
    Order(Point.ANSWERED, 3),
    Order(Point.FLUSHING),
    Order(Point.FLUSHED),
)
RECOVERY: Final = (
    Order(Point.HALF_WRITTEN, 3),
    # The torn tail is cut, and nobody has synced that yet.
    Order(Point.TRUNCATED),
    Order(Point.WRITTEN, 3),
    # What was written and not announced is written again, each time.
    *one_each(Point.REWRITTEN, Point.REWRITTEN, Point.EPOCH_RAISED, Point.CLAIM_WRITTEN),
    *one_each(Point.CAUGHT_UP, Point.ANSWERED, Point.CAUGHT_UP),
)
SEGMENTS: Final = (
    *one_each(Point.ROLL_CLOSED, Point.ROLL_CREATED, Point.ROLL_NAMED),
    *one_each(Point.OLDEST_MOVED, Point.REMOVED),
)
CHECKPOINT: Final = (
    # The first one of each life comes before any event.
    Order(Point.CHECKPOINT_CREATED, 2),
    Order(Point.CHECKPOINT_WRITTEN, 2),
    Order(Point.CHECKPOINT_SYNCED, 2),
    Order(Point.CHECKPOINT_RENAMED, 2),
    Order(Point.CHECKPOINT_NAMED, 2),
)


def test_persist_is_killed_at_every_point_that_has_a_name() -> None:
    ordered = {order.point for order in (*GROUP, *RECOVERY, *SEGMENTS, *CHECKPOINT)}
    assert ordered == set(Point)


def test_kill_9_at_each_step_of_a_groups_way_loses_doubles_and_reorders_nothing(
    postgres_url: str, data_dir: Path
) -> None:
    with Story(data_dir, postgres_url) as story:
        story.die_at(*GROUP)
        story.finish()
        rules = story.rules()
        assert rules.broken == []
        story.assert_whole()


def test_kill_9_during_recovery_leaves_a_log_that_the_next_start_recovers(
    postgres_url: str, data_dir: Path
) -> None:
    with Story(data_dir, postgres_url) as story:
        story.die_at(*RECOVERY)
        story.finish()
        assert story.rules().broken == []
        story.assert_whole()


def test_kill_9_while_a_segment_is_rolled_or_removed_leaves_no_hole(
    postgres_url: str, data_dir: Path
) -> None:
    small = {"CHAOS_SEGMENT_BYTES": "60000", "CHAOS_LOG_BYTES": "150000"}
    with Story(data_dir, postgres_url, **small) as story:
        story.die_at(*SEGMENTS)
        story.finish()
        rules = story.rules()
        assert rules.broken == []
        assert rules.counted["remove"] >= 2
        story.assert_whole(retained=False)


def test_kill_9_while_the_checkpoint_is_written_leaves_the_one_before_or_the_new_one(
    postgres_url: str, data_dir: Path
) -> None:
    with Story(data_dir, postgres_url) as story:
        # The first one of each life comes before any event.
        story.die_at(*CHECKPOINT)
        story.finish()
        rules = story.rules()
        assert rules.broken == []
        assert rules.counted["checkpoint"] > rules.counted["rename"] >= 2
        story.assert_whole()
