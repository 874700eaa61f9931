"""What does a persist do that stood still, and wakes up in another world? It goes on, or it ends."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.points import Order, Point
from tests.chaos.story import WITHIN_S, Story


def test_a_second_persist_is_refused_by_name_and_the_one_that_stood_still_goes_on(
    postgres_url: str, data_dir: Path
) -> None:
    with Story(data_dir, postgres_url) as story:
        for point in (Point.WRITTEN, Point.SYNCED, Point.ANNOUNCED, Point.PUBLISHED):
            story.stand_at(Order(point, 3))
            second = story.by_hand()
            out, _ = second.communicate(timeout=WITHIN_S)
            assert second.returncode == 1
            assert f"holds the data folder {data_dir}" in out.decode()
            assert story.log_epoch == 1
            story.go_on()
            story.flow(50)
        story.finish()
        rules = story.rules()
        assert rules.broken == []
        assert rules.counted["stood"] == 4
        story.assert_whole()


def test_a_persist_that_was_outlived_while_it_stood_still_ends_and_adds_nothing(
    postgres_url: str, data_dir: Path
) -> None:
    with Story(data_dir, postgres_url) as story:
        for point in (Point.WRITTEN, Point.SYNCED, Point.ANNOUNCED, Point.PUBLISHED):
            story.stand_at(Order(point, 3))
            epoch = story.log_epoch
            assert story.outlive() == 1
            assert f"Fenced: epoch {epoch + 1} has claimed the log of epoch {epoch}" in story.output
            story.flow(50)
        story.finish()
        assert story.rules().broken == []
        story.assert_whole()
