"""Does the network work as a process of its own? Addresses, control, end, and nothing left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fix_loop import LoopRun
from tests.simnet import Consumer, Truth
from tests.simnet.control import parse_line
from tests.simnet.truth import open_frame

ROOT = Path(__file__).resolve().parent.parent
QUICK = ("--hosts", "2", "--accounts", "4", "--records", "20", "--settle", "0.05")


@asynccontextmanager
async def running(
    *arguments: str, folder: Path | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """The process and its first line; killed at the end if it has not ended itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.simnet",
        *QUICK,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder or tempfile.gettempdir())},
    )
    try:
        yield process, await line(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


async def line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next JSON line."""
    assert process.stdout is not None
    async with asyncio.timeout(50):
        answer: dict[str, Any] = json.loads(await process.stdout.readline())
    return answer


async def ask(process: asyncio.subprocess.Process, command: str) -> dict[str, Any]:
    """The answer to a line on standard input."""
    assert process.stdin is not None
    process.stdin.write(command.encode() + b"\n")
    return await line(process)


def test_load_runs_its_time_and_the_process_ends(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        file = tmp_path / "truth.jsonl"
        arguments = ("--rate", "100", "--seconds", "0.5", "--truth", str(file), "--tls", "good")
        async with running(*arguments, "--start", "connected", folder=tmp_path) as (process, ready):
            assert ready["event"] == "ready"
            assert [host["url"].split(":")[0] for host in ready["hosts"]] == ["https", "http"]
            assert Path(ready["ca_file"]).is_file()

            context = ssl.create_default_context(cafile=ready["ca_file"])
            async with (
                Consumer(ready["hosts"][0]["stream"], 0, tls=context) as first,
                Consumer(ready["hosts"][1]["stream"], 0) as second,
            ):
                done = await line(process)
                assert done["event"] == "done"
                assert done["events"] >= 45
                assert await process.wait() == 0
                truth = Truth.load(file)
                assert truth.counts() == done["counts"]
                for host, consumer in enumerate((first, second)):
                    # It has ended, and what it has said may still be on its way.
                    await consumer.wait_count(sum(said.host == host for said in truth.entries))
                got = len(first.frames) + len(second.frames)
                assert got == len(truth.entries) == done["events"]
        assert list(tmp_path.iterdir()) == [file]

    loop_run(story())


def test_another_process_steers_it(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with running("--start", "control") as (process, ready):
            reader, writer = await asyncio.open_connection("127.0.0.1", ready["control_port"])

            async def tell(text: str) -> dict[str, Any]:
                writer.write(text.encode() + b"\n")
                return dict(json.loads(await reader.readline()))

            assert (await tell("prebuild count=5"))["prebuilt"] >= 5
            assert (await tell("start rate=1000 seconds=5"))["ok"]
            assert (await tell("wait"))["events"] >= 5
            for name in ("bad_signature", "foreign_commit"):
                assert (await tell(f"invalid name={name} count=2"))["ok"]
            async with Consumer(ready["hosts"][0]["stream"], 0) as consumer:
                moved = await tell('{"do": "migrate", "to": 0}')
                if not moved["ok"]:
                    moved = await tell('{"do": "migrate", "to": 1}')
                assert moved["ok"], moved
                # Only who is there already can be cut off.
                await consumer.wait_count(1)
                assert (await tell("host host=0 what=cut"))["ok"]
                await consumer.wait_for(lambda: consumer.breaks >= 1)
            assert (await tell("fault host=1 silent_stream=true"))["ok"]
            assert (await tell("fault host=1"))["ok"]
            assert not (await tell("fault host=1 nonsense=1"))["ok"]
            assert (await tell("plc fault=server_error"))["ok"]
            assert (await tell("bad name=text_frame host=0"))["reason"] == "text_frame"
            status = await tell("status")
            assert status["counts"]["drop:signature_invalid"] == 2
            assert status["counts"]["drop:host_not_authoritative"] == 4
            assert status["counts"]["drop:sync_not_resigned"] == 1
            path = tmp_path / "t.jsonl"
            assert (await tell(f"truth path={path}"))["entries"] == len(Truth.load(path).entries)
            assert "unknown command" in (await tell("dance"))["error"]
            writer.close()
            assert (await ask(process, "status"))["ok"]
            assert (await ask(process, "quit"))["ok"]
            assert await process.wait() == 0

    loop_run(story())


def test_rate_can_change_and_load_can_stop(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with running("--rate", "1", "--seconds", "100") as (process, ready):
            async with Consumer(ready["hosts"][0]["stream"], 0) as consumer:
                assert (await ask(process, "rate rate=300"))["ok"]
                await consumer.wait_count(30)
                assert open_frame(consumer.frames[0])[1]["seq"] == 1
            assert process.stdin is not None
            process.stdin.write(b"stop\n")
            answers = [await line(process), await line(process)]
            assert {answer.get("event") for answer in answers} == {None, "done"}
            assert all(answer["events"] > 30 for answer in answers)
            assert await process.wait() == 0

    loop_run(story())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it(number: signal.Signals, loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with running("--seconds", "100", "--tls", "good", folder=tmp_path) as (process, _):
            process.send_signal(number)
            async with asyncio.timeout(30):
                assert await process.wait() == 0
        assert list(tmp_path.iterdir()) == []

    loop_run(story())


def test_lifetime_ends_it(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with running("--start", "control", "--lifetime", "0.2") as (process, _):
            assert (await line(process))["event"] == "lifetime_over"
            assert await process.wait() == 0

    loop_run(story())


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not collected yet does not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_does_not_outlive_its_parent(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        command = [sys.executable, "-m", "tests.simnet", *QUICK, "--start", "control"]
        code = (
            "import subprocess, sys\n"
            f"child = subprocess.Popen({command!r}, stdout=subprocess.PIPE)\n"
            "sys.stdout.buffer.write(child.stdout.readline())\n"
            "sys.stdout.flush()\n"
            "child.wait()\n"
        )
        parent = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        ready = await line(parent)
        parent.kill()
        await parent.wait()
        parent._transport.close()  # type: ignore[attr-defined]
        try:
            async with asyncio.timeout(30):
                while alive(ready["pid"]):
                    await asyncio.sleep(0.02)
        finally:
            if alive(ready["pid"]):
                os.kill(ready["pid"], signal.SIGKILL)

    loop_run(story())


def test_line_is_json_or_words() -> None:
    assert parse_line('{"do": "rate", "rate": 5}') == {"do": "rate", "rate": 5}
    assert parse_line("fault host=0 bytes_per_s=10.5 silent_stream=true did=did:plc:x\n") == {
        "do": "fault",
        "host": 0,
        "bytes_per_s": 10.5,
        "silent_stream": True,
        "did": "did:plc:x",
    }
    for wrong in ("start rate", '{"rate": 5}'):
        with pytest.raises(ValueError, match=r"name=value|do"):
            parse_line(wrong)
