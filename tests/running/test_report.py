"""Does the operator see what runs, and what does not?"""

from __future__ import annotations

from common.command import report
from common.command.balance import Numbers, sums
from common.command.report import Process, Relay

INGEST: Numbers = {
    "standpipe_read_total": {"": 110},
    "standpipe_inbox": {"": 4},
    "standpipe_unread_total": {"": 2},
    "standpipe_received_total": {"commit": 90, "identity": 10, "info": 3, "error": 1},
    "standpipe_originated_total": {"account": 0},
    "standpipe_forwarded_total": {"commit": 70, "identity": 9},
    "standpipe_heeded_total": {"info": 3, "error": 1},
    "standpipe_released_total": {"commit": 0},
    "standpipe_dropped_total": {"signature_invalid": 3, "car_malformed": 12, "field_invalid": 0},
    "standpipe_held": {"": 4},
    "standpipe_in_flight": {"": 2},
    "standpipe_unaccounted": {"": 0},
    "standpipe_log_epoch": {"": 7},
    "standpipe_log_epoch_events": {"": 60},
    "standpipe_hosts": {"active": 2, "offline": 1},
    "process_resident_memory_bytes": {"": 100 * 2**20},
}
PERSIST: Numbers = {
    "standpipe_durable_seq": {"": 1234567},
    "standpipe_received_total": {"event": 70},
    "standpipe_forwarded_total": {"commit": 61, "identity": 3},
    "standpipe_dropped_total": {"duplicate": 4, "sent_back": 0},
    "standpipe_held": {"": 1},
    "standpipe_in_flight": {"": 1},
    "standpipe_unaccounted": {"": 0},
    "standpipe_log_epoch": {"": 7},
    "standpipe_log_epoch_events": {"": 64},
}
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
        "received 104 · forwarded 79 · dropped 15 (car_malformed 12, signature_invalid 3) · heeded 4"
        " · held 4 · in flight 2 · unaccounted 0 · hosts: active 2, offline 1"
    )
    assert by_name["persist"].endswith(
        "received 70 · forwarded 64 · dropped 4 (duplicate 4) · held 1 · in flight 1 · unaccounted 0"
        " · durable seq 1,234,567"
    )
    assert by_name["broadcast-0"].endswith("head seq 1,234,500 · consumers 3 · delivered 99")
    assert by_name["postgres"].split() == ["postgres", "running", "42", "1h01m", "-"]
    assert "100 MiB" in by_name["ingest-0"]


def test_the_last_lines_have_the_balance_of_the_relay_and_how_far_its_stages_are_apart() -> None:
    balance, flow = report.as_text(WHOLE).splitlines()[-2:]
    assert balance == (
        "read 110 + said itself 0 = on disk 79 + dropped 15 + heeded 4 + released 0 + unread 2"
        " + inbox 4 + held 4 + in flight 2 · unaccounted 0"
    )
    assert flow == (
        "written by this persist 64, heard of by ingest 60"
        " · broadcast behind the log by 67 · consumers 3"
    )
    told = report.as_value(WHOLE)
    assert told["unaccounted"] == 0
    terms = told["balance"]
    assert terms["read"] + terms["originated"] == sum(
        terms[name]
        for name in (
            "forwarded", "dropped", "heeded", "released", "unread", "inbox", "held", "in_flight",
        )
    )  # fmt: skip


def test_an_event_that_one_process_lost_shows_in_the_relays_balance() -> None:
    lost = relay(running("persist", PERSIST | {"standpipe_unaccounted": {"": 2}}))
    assert lost.up
    assert lost.balance.unaccounted == 2
    assert report.as_text(lost).splitlines()[-2].endswith("unaccounted 2")
    assert report.as_value(lost)["processes"][0]["unaccounted"] == 2


def test_an_event_called_on_disk_that_persist_did_not_write_shows() -> None:
    two: Numbers = INGEST | {"standpipe_log_epoch_events": {"": 5}}
    assert sums([INGEST, two, PERSIST]).unaccounted == 1


def test_what_an_earlier_persist_had_written_is_not_held_against_the_new_one() -> None:
    """Whoever has not heard of the new one yet counts for nothing here."""
    new: Numbers = {"standpipe_log_epoch": {"": 8}, "standpipe_log_epoch_events": {"": 0}}
    found = sums([INGEST, PERSIST | new])
    assert (found.written, found.heard, found.unaccounted) == (0, 0, 0)


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


def test_a_spare_that_waits_is_shown_and_no_fault() -> None:
    spare = Process("ingest-2", "spare", 0, 0.0, None, None)
    found = relay(*WHOLE.processes, spare)
    assert found.up
    assert "spare" in report.as_text(found)
    assert not relay(spare).up, "spares alone are no relay"
    stopped = Process("ingest-1", "stopped", 0, 0.0, None, None)
    assert not relay(*WHOLE.processes, stopped).up
