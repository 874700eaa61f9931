"""Does the operator see what runs, and what does not?"""

from __future__ import annotations

from common.command import report
from common.command.report import Numbers, Process, Relay

INGEST: Numbers = {
    "standpipe_received_total": {"commit": 90, "identity": 10, "info": 3, "error": 1},
    "standpipe_forwarded_total": {"commit": 70, "identity": 9},
    "standpipe_dropped_total": {"signature_invalid": 3, "car_malformed": 12, "field_invalid": 0},
    "standpipe_held": {"": 4},
    "standpipe_in_flight": {"": 2},
    "standpipe_hosts": {"active": 2, "offline": 1},
    "process_resident_memory_bytes": {"": 100 * 2**20},
}
PERSIST: Numbers = {"standpipe_durable_seq": {"": 1234567}, "standpipe_logged_total": {"commit": 5}}
BROADCAST: Numbers = {
    "standpipe_head_seq": {"": 1234500},
    "standpipe_consumers": {"": 3},
    "standpipe_delivered_total": {"": 99},
}


def relay(*processes: Process, problem: str | None = None) -> Relay:
    return Relay("/srv/data", 2470, 41, problem, list(processes))


def running(name: str, numbers: Numbers | None) -> Process:
    return Process(name, "running", 42, 3700, numbers, None)


WHOLE = relay(
    running("broadcast-0", BROADCAST),
    running("ingest-0", INGEST),
    running("persist", PERSIST),
    running("postgres", None),
)


def test_each_process_has_a_line_with_its_numbers() -> None:
    lines = report.as_text(WHOLE).splitlines()
    assert lines[0] == "relay in /srv/data, port 2470, under process 41"
    by_name = {line.split()[0]: line for line in lines if line}
    assert by_name["ingest-0"].endswith(
        "received 100 · forwarded 79 · dropped 15 (car_malformed 12, signature_invalid 3) · "
        "held 4 · in flight 2 · hosts: active 2, offline 1"
    )
    assert by_name["persist"].endswith("durable seq 1,234,567 · logged 5")
    assert by_name["broadcast-0"].endswith("head seq 1,234,500 · consumers 3 · delivered 99")
    assert by_name["postgres"].split() == ["postgres", "running", "42", "1h01m", "-"]
    assert "100 MiB" in by_name["ingest-0"]


def test_the_last_line_has_the_sums() -> None:
    assert report.as_text(WHOLE).splitlines()[-1] == (
        "received 100 = forwarded 79 + dropped 15 + held 4 + in flight 2"
        " · broadcast behind the log by 67 · consumers 3"
    )


def test_a_whole_relay_is_up() -> None:
    assert WHOLE.up
    assert report.as_value(WHOLE)["up"] is True


def test_one_process_that_does_not_run_takes_it_down() -> None:
    broken = Process("persist", "backoff", 0, 0, None, None)
    down = relay(running("ingest-0", INGEST), broken)
    assert not down.up
    assert "persist   backoff  -" in report.as_text(down)


def test_one_process_without_numbers_takes_it_down() -> None:
    silent = Process("ingest-0", "running", 42, 5, None, "its Prometheus port does not answer: x")
    assert not relay(silent).up
    assert "does not answer" in report.as_text(relay(silent))


def test_no_relay_is_not_up() -> None:
    none = Relay("/srv/data", 2470, None, "no supervisord answers at /x", [])
    assert not none.up
    assert "nothing runs here" in report.as_text(none)
    assert "no supervisord answers at /x" in report.as_text(none)
