"""Are log lines JSON, and numbers what they say?"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import prometheus_client
import pytest

from common import telemetry
from common.telemetry import HighWater, JsonLines, LoopLag, Telemetry


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    running = Telemetry("ingest-0", tmp_path / "ingest-0.json", "127.0.0.1", 0)
    running.start()
    yield running.metrics_port
    running.close()


def scraped(port: int, *names: str) -> dict[str, float]:
    query = "?" + urlencode([("name[]", name) for name in names]) if names else ""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics{query}") as answer:
        lines = answer.read().decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {key: float(value) for key, _, value in pairs}


def record(**fields: object) -> logging.LogRecord:
    made = logging.LogRecord("standpipe", logging.WARNING, "f", 1, "it is %s", ("so",), None)
    if fields:
        made.fields = fields
    return made


def test_a_log_line_is_one_json_object_with_its_fields() -> None:
    line = json.loads(JsonLines("persist").format(record(host="a.example", seq=7)))
    assert line.pop("ts") == pytest.approx(record().created, abs=60)
    assert line == {
        "level": "warn", "process": "persist", "msg": "it is so", "host": "a.example", "seq": 7,
    }  # fmt: skip


def test_a_log_line_takes_what_json_does_not_know() -> None:
    text = JsonLines("persist").format(record(path=Path("/x"), big=2**70, raw=b"\xff", it={1: 2}))
    line = json.loads(text)
    assert line["path"] == "/x"
    assert "\n" not in text


def test_a_line_of_anything_is_not_lost() -> None:
    line = json.loads(JsonLines("persist").format(record(text="\ud800", deep=[{"n": 2**64}])))
    assert line["text"] == "\ud800"


def test_a_log_line_has_the_error_and_where_it_came_from() -> None:
    made = record()
    try:
        raise ValueError("what is wrong")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = json.loads(JsonLines("persist").format(made))
    assert line["error"] == "ValueError('what is wrong')"
    assert "test_telemetry.py" in line["traceback"]


def test_a_high_water_mark_is_the_most_since_it_was_taken() -> None:
    queue = HighWater()
    for depth in (3, 9, 4):
        queue.note(depth)
    assert queue.take() == 9
    assert queue.take() == 4
    queue.note(0)
    assert queue.take() == 4
    assert queue.take() == 0


def test_a_scrape_shows_each_queue_and_begins_anew(port: int) -> None:
    queue = telemetry.high_water("test_queue")
    other = telemetry.high_water("test_other")
    assert telemetry.high_water("test_queue") is queue
    queue.note(36)
    queue.note(0)
    other.note(1)
    name = 'standpipe_queue_high_water{queue="test_queue"}'
    found = scraped(port)
    assert found[name] == 36
    assert found['standpipe_queue_high_water{queue="test_other"}'] == 1
    assert scraped(port)[name] == 0


def test_asking_for_other_numbers_takes_no_peak(port: int) -> None:
    queue = telemetry.high_water("test_queue")
    queue.note(8)
    queue.note(0)
    assert list(scraped(port, "process_open_fds")) == ["process_open_fds"]
    assert scraped(port)['standpipe_queue_high_water{queue="test_queue"}'] == 8


def test_a_number_is_made_once() -> None:
    one = telemetry.counter("test_things_total", "Things.", ["kind"])
    assert telemetry.counter("test_things_total", "Things.", ["kind"]) is one
    with pytest.raises(TypeError, match="Counter already"):
        telemetry.gauge("test_things_total", "Things.")


def test_the_lag_gauge_keeps_a_peak_for_one_to_two_windows() -> None:
    lag = LoopLag()

    def value() -> float | None:
        return prometheus_client.REGISTRY.get_sample_value("standpipe_loop_lag_seconds")

    lag.note(0.1, now_s=1000)
    lag.note(0.2, now_s=1014)
    lag.note(0.0, now_s=1016)
    assert value() == 0.2
    lag.note(0.05, now_s=1032)
    assert value() == 0.05


def test_lag_is_told_from_a_quarter_of_a_second(caplog: pytest.LogCaptureFixture) -> None:
    lag = LoopLag()
    lag.note(0.249, now_s=1)
    assert caplog.records == []
    lag.note(0.25, now_s=1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_hold_up_says_how_much_of_it_the_machine_took(caplog: pytest.LogCaptureFixture) -> None:
    """Another process on the same core, and a loop that wants to compute for as long."""

    async def story() -> None:
        watch = asyncio.create_task(LoopLag().watch())
        await asyncio.sleep(0.06)
        began_s = time.thread_time()
        while time.thread_time() - began_s < 0.4:
            pass
        await asyncio.sleep(0.1)
        watch.cancel()

    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as rival:
        try:
            assert rival.stdout is not None
            rival.stdout.readline()
            asyncio.run(story())
        finally:
            rival.kill()
            os.sched_setaffinity(0, cores)
    # Others may hold it up for longer before it computes, which is none of its own doing.
    told = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    worst = max(told, key=lambda fields: fields["lag_s"] - fields["starved_s"])
    assert worst["starved_s"] >= 0.1
    assert worst["lag_s"] - worst["starved_s"] >= 0.3


def test_the_run_file_is_whole_at_any_time_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "broadcast-0.json"
    running = Telemetry("broadcast-0", path, "127.0.0.1", 0)
    running.start()
    running.tell(private_port=4711)
    told = json.loads(path.read_bytes())
    assert told["private_port"] == 4711
    assert told["metrics_port"] == running.metrics_port
    running.close()
    assert list(tmp_path.iterdir()) == []


def test_a_successors_run_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "broadcast-0.json"
    running = Telemetry("broadcast-0", path, "127.0.0.1", 0)
    running.start()
    path.write_text('{"pid": 1}')
    running.close()
    assert path.exists()


def test_a_peak_lasts_and_whoever_asks_for_it_takes_nothing(port: int) -> None:
    queue = telemetry.high_water("test_peak")
    queue.note(8)
    queue.note(2)
    name = 'standpipe_queue_peak{queue="test_peak"}'
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/metrics?name[]=standpipe_queue_peak"
    ) as answer:
        assert f"{name} 8.0" in answer.read().decode()
    assert scraped(port)['standpipe_queue_high_water{queue="test_peak"}'] == 8
    assert scraped(port)[name] == 8
    queue.note(3)
    assert (scraped(port)[name], queue.take()) == (8, 3)
    queue.note(9)
    assert scraped(port)[name] == 9
