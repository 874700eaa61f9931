"""What do two looks at a relay say together? The sums of `standpipe snapshot`, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from common.command.balance import Numbers
from common.command.probed import Probed
from common.command.report import Process, Relay
from common.command.snapped import Snapshot, snapshot_text, snapshot_value

MIB = 2**20


def process(name: str, pid: int, numbers: Numbers | None, up_s: float = 100.0) -> Process:
    return Process(name, "running", pid, up_s, numbers, None)


def ingest(read: float, dropped: float, peak: float) -> Numbers:
    return {
        "standpipe_read_total": {"": read},
        "standpipe_dropped_total": {"rev_not_newer": dropped, "signature_invalid": 7},
        "standpipe_log_epoch_events": {"": read},
        "standpipe_queue_peak": {"ingest_inbox_bytes": peak},
        "process_resident_memory_bytes": {"": 100 * MIB},
    }


def persist(durable: float, dropped: float) -> Numbers:
    return {
        "standpipe_log_epoch_events": {"": durable},
        "standpipe_durable_seq": {"": 1000 + durable},
        "standpipe_dropped_total": {"sent_back": dropped},
        "standpipe_queue_peak": {"persist_group_bytes": 5},
    }


def broadcast(delivered: float, head: float) -> Numbers:
    return {
        "standpipe_delivered_total": {"": delivered},
        "standpipe_head_seq": {"": head},
        "standpipe_consumers": {"": 3},
    }


def relay(*processes: Process) -> Relay:
    return Relay("/srv/data", 2470, 41, None, list(processes))


BEFORE = relay(
    process("ingest-0", 1, ingest(100, 10, 50)), process("ingest-1", 2, ingest(1000, 0, 5)),
    process("persist", 3, persist(80, 0)), process("broadcast-0", 4, broadcast(500, 1080)),
)  # fmt: skip
AFTER = relay(
    process("ingest-0", 1, ingest(250, 25, 70)), process("ingest-1", 9, ingest(50, 0, 60), 5.0),
    process("persist", 3, persist(180, 4)), process("broadcast-0", 4, broadcast(900, 1175)),
)  # fmt: skip


def seen(events: int, first_seq: int | None, last_seq: int | None, *faults: str) -> Probed:
    found = Probed("ws://x")
    found.connected, found.events = True, events
    found.first_seq, found.last_seq = first_seq, last_seq
    found.faults = list(faults)
    return found


SNAP = Snapshot((200, {"status": "ok"}), BEFORE, AFTER, seen(99, 1081, 1180), 20.0, 400 * MIB)


def test_the_sums_are_of_what_was_in_between() -> None:
    value = snapshot_value(SNAP)
    assert (value["events"], value["fps"]) == (100, 5.0)
    # The second ingest began anew: what it counts, it has counted since.
    assert value["read"] == 150 + 50
    assert value["drops"] == {"rev_not_newer": 15, "signature_invalid": 7}
    assert value["reject_ratio"] == pytest.approx(22 / 200)
    assert value["delivery_ratio"] == pytest.approx(0.99)
    assert (value["delivered"], value["consumers"], value["behind"]) == (400, 3, 5)
    assert value["high_water"] == {"ingest_inbox_bytes": 70, "persist_group_bytes": 5}
    assert (value["rss_bytes"], value["pss_bytes"]) == (200 * MIB, 400 * MIB)
    assert (value["up_s"], value["restarted"]) == (100.0, ["ingest-1"])
    assert value["processes"]["ingest-1"]["up_s"] == 5.0
    assert (value["ok"], value["faults"], value["health"]["code"]) == (True, [], 200)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param({"health": (503, {"status": "error", "message": "silent"})}, "error: silent",
                     id="health is red"),
        pytest.param({"health": (0, {})}, "nobody answers", id="nobody answers"),
        pytest.param({"probed": seen(0, None, None, "seq 1 after 2")}, "seq 1 after 2",
                     id="a consumer sees a fault"),
        pytest.param({"after": relay(replace(AFTER.processes[0], state="backoff"))},
                     "ingest-0 is backoff", id="a process is down"),
        pytest.param({"after": relay(replace(AFTER.processes[0], problem="mute", numbers=None))},
                     "ingest-0: mute", id="a process is mute"),
        pytest.param({"after": replace(relay(), problem="no supervisord")}, "no supervisord",
                     id="nothing runs"),
        pytest.param({"after": relay(process("persist", 3, {"standpipe_unaccounted": {"": 2}}))},
                     "unaccounted 2", id="an event is lost"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_seen(change: dict[str, Any], fault: str) -> None:
    snap = replace(SNAP, **change)
    assert not snap.ok
    text = snapshot_text(snap)
    assert "NOT OK" in text
    assert fault in text


def test_a_spare_is_no_fault() -> None:
    spare = Process("ingest-2", "spare", 0, 0.0, None, None)
    snap = replace(SNAP, after=relay(*AFTER.processes, spare))
    assert snap.ok
    assert snapshot_value(snap)["faults"] == []
    assert "the youngest process is ingest-1" in snapshot_text(snap)


def test_nothing_delivered_is_no_ratio_where_nothing_was_written() -> None:
    silent = replace(SNAP, probed=seen(0, None, None))
    assert silent.delivery_ratio == 0.0
    assert replace(silent, before=AFTER).delivery_ratio is None
    assert replace(silent, before=AFTER).reject_ratio is None


def test_people_get_one_screen() -> None:
    lines = [" ".join(line.split()) for line in snapshot_text(SNAP).splitlines()]
    assert len(lines) <= 20
    for line in (
        "relay ok: /srv/data, port 2470", "health ok",
        "up 1m40s; the youngest process is ingest-1, 5s; began anew meanwhile: ingest-1",
        "events 5.0 a second became durable: 100 in 20.0 s",
        "delivery 99.00 % to a consumer of our own, of 99; 3 others, 20.0 a second in all",
        "behind broadcast is behind the log by 5",
        "rejects 11.00 % of 200 read: rev_not_newer 15, signature_invalid 7", "lost unaccounted 0",
        "memory PSS 400 MiB with PostgreSQL; RSS 200 MiB without it (ingest-0 100, ingest-1 100)",
        "high water ingest_inbox_bytes 70", "persist_group_bytes 5",
    ):  # fmt: skip
        assert line in lines, line
