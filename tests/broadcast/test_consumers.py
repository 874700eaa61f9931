"""broadcast.consumers: who reads the stream, at which broadcaster, how far; and one is let go."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from broadcast.admin_api import Setup
from tests.broadcast.fakes import FakeLog, Member, frame_of, member_of, seqs, until
from tests.broadcast.operator import PASSWORD, Operator
from tests.fix_loop import LoopRun

LIST = "/admin/consumers/list"
DISCONNECT = "/admin/consumers/disconnect?id="


def setup(folder: Path, member: int) -> Setup:
    return Setup(passwords=(PASSWORD,), member=member, run_dir=folder)


def tell(folder: Path, member: Member, number: int) -> None:
    """What a broadcaster says of itself in its run file."""
    facts = {"process": f"broadcast-{number}", "private_port": member.private_port}
    (folder / f"broadcast-{number}.json").write_text(json.dumps(facts))


def test_a_consumer_is_listed_with_what_its_own_connection_was_handed(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(5)
        admin = Setup(passwords=(PASSWORD,))
        async with member_of(log, tmp_path, admin=admin, trusted_proxies=("127.0.0.1",)) as member:
            operator = Operator(member)
            assert await operator.get(LIST) == []
            more = {"user_agent_header": "reader/1 \u00e4"}
            forwarded = {"X-Forwarded-For": "198.51.100.7"}
            async with (
                member.stream("?cursor=2", **more) as old,
                member.stream(additional_headers=forwarded) as new,
            ):
                assert await seqs(old, 4) == [2, 3, 4, 5]
                await until(lambda: not member.fanout._ahead)
                member.emit(2)
                assert await seqs(old, 2) == await seqs(new, 2) == [6, 7]
                first, second = await operator.get(LIST)
                assert (first["events_consumed"], second["events_consumed"]) == (6, 2)
                assert (first["seq"], first["lag_events"], first["state"]) == (7, 0, "live")
                assert first["bytes"] > second["bytes"] > 200
                assert first["user_agent"].startswith("reader/1 ")
                assert (first["remote_addr"], second["remote_addr"]) == (
                    "127.0.0.1",
                    "198.51.100.7",
                )
                assert first["process"] == "broadcast-0"
                age = datetime.now(UTC) - datetime.fromisoformat(first["connected_at"])
                assert 0 <= age.total_seconds() < 60
                assert first["id"] < second["id"] < 2**53
                async with member.stream() as late:
                    await until(lambda: member.fanout.streams == 3)
                    member.emit(1)
                    assert await seqs(late, 1) == [8]
                    third = (await operator.get(LIST))[2]
                    assert (third["events_consumed"], third["seq"]) == (1, 8)
                    assert third["bytes"] == len(frame_of(8))
            await until(lambda: not member.fanout.streams)
            assert await operator.get(LIST) == []

    loop_run(story())


def test_one_that_does_not_read_is_seen_to_be_behind(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        admin = Setup(passwords=(PASSWORD,))
        async with member_of(FakeLog(), tmp_path, admin=admin) as member:
            async with member.stream() as stream:
                (outlet,) = member.fanout.outlets()
                outlet.blocked = True
                member.fanout.fell_behind(outlet)
                member.emit(3)
                await until(lambda: member.fanout.live_seq == 4)
                (row,) = await Operator(member).get(LIST)
                assert (row["state"], row["seq"], row["lag_events"]) == ("playback", 0, 3)
                assert row["events_consumed"] == 0
                outlet.blocked = False
                member.fanout.pull(outlet)
                assert await seqs(stream, 3) == [1, 2, 3]
                (row,) = await Operator(member).get(LIST)
                assert (row["events_consumed"], row["lag_events"]) == (3, 0)

    loop_run(story())


def test_any_broadcaster_lists_the_consumers_of_all_and_reaches_each(tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(1)
        async with (
            member_of(log, tmp_path, admin=setup(tmp_path, 0)) as zero,
            member_of(
                log, tmp_path, admin=setup(tmp_path, 1), port=zero.port, persist=False
            ) as one,
        ):
            operators = Operator(zero), Operator(one)
            tell(tmp_path, zero, 0)
            tell(tmp_path, one, 1)
            # The kernel chooses who takes a connection on the shared port: both have private ones.
            async with stream_at(zero) as a, stream_at(zero) as b, stream_at(one) as c:
                await until(lambda: (zero.fanout.streams, one.fanout.streams) == (2, 1))
                for operator in operators:
                    found = await operator.get(LIST)
                    assert sorted(row["process"] for row in found) == [
                        "broadcast-0", "broadcast-0", "broadcast-1",
                    ]  # fmt: skip
                    assert len({row["id"] for row in found}) == 3
                (there,) = [row for row in found if row["process"] == "broadcast-1"]
                done = {"success": "true", "changed": True}
                assert await private(zero, DISCONNECT + str(there["id"])) == done
                with pytest.raises(ConnectionClosed) as closed:
                    await c.recv()
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
                    1008, "disconnected by the operator; last seq 1",
                )  # fmt: skip
                again = await private(zero, DISCONNECT + str(there["id"]))
                assert again == {"success": "true", "changed": False}
                assert (zero.fanout.streams, one.fanout.streams) == (2, 0)
                zero.emit(1)
                assert await seqs(a, 1) == await seqs(b, 1) == [2]

    asyncio.run(story())


def test_a_broadcaster_that_does_not_answer_is_named_and_the_rest_is_given(tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, admin=setup(tmp_path, 0)) as member:
            dead = {"process": "broadcast-3", "private_port": 1}
            (tmp_path / "broadcast-3.json").write_text(json.dumps(dead))
            (tmp_path / "broadcast-4.json").write_text("{")  # it begins just now
            async with member.stream():
                first, silent = await Operator(member).get(LIST)
                assert first["process"] == "broadcast-0"
                assert silent["process"] == "broadcast-3"
                assert "does not answer" in silent["error"]
                # Who parses each row by its type is not to stumble over it.
                assert (silent["id"], silent["events_consumed"]) == (0, 0)
                assert silent["connected_at"].endswith("Z")
            refused = await Operator(member).refused("POST", DISCONNECT + str(5 * 32 + 3))
            assert refused[0] == 503
            assert "broadcast-3" in refused[1]
            gone = await Operator(member).post(DISCONNECT + str(5 * 32 + 9))
            assert gone == {"success": "true", "changed": False}

    asyncio.run(story())


def test_a_broadcaster_lets_nobody_in_for_another_without_the_password(tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, admin=setup(tmp_path, 0)) as member:
            for port in (member.port, member.private_port):
                operator = Operator(member, None)
                response = await operator.ask("GET", LIST + "?here=true", port=port)
                assert response.status == 401

    asyncio.run(story())


async def private(member: Member, path: str) -> Any:
    """A POST to a broadcaster's private port."""
    response = await Operator(member).ask("POST", path, port=member.private_port)
    assert response.status == 200, response
    return json.loads(response.body)


def stream_at(member: Member) -> Any:
    """A consumer of this very broadcaster."""
    public, member.port = member.port, member.private_port
    try:
        return member.stream()
    finally:
        member.port = public
