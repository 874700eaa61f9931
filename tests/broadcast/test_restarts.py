"""A broadcaster that ends on purpose: its siblings take over, and nobody is turned away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from broadcast import server
from broadcast.config import HttpLimits, Limits
from broadcast.server import Listener, bind
from broadcast.subscriber import Service
from tests.broadcast.fakes import FakeLog, member_of, seqs, until
from tests.broadcast.raw import handshake
from tests.broadcast.restarts import measure
from tests.fix_loop import LoopRun

RETIRES = HttpLimits(retire_s=0.4)


async def answer(scope: object, receive: object, send: object) -> None:
    """An application that nobody asks."""


@pytest.mark.parametrize("first", ["ours", "the sibling"])
def test_who_connects_while_a_listener_retires_gets_to_a_sibling(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Whoever of the two was the first on the port."""
    steered = 0

    def counted(sock: socket.socket, place: int) -> bool:
        nonlocal steered
        steered += 1
        return steer(sock, place)

    steer = server._steer
    monkeypatch.setattr(server, "_steer", counted)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        ours = bind("127.0.0.1", 0, shared=True)
        port = ours.getsockname()[1]
        sibling = bind("127.0.0.1", port, shared=True)
        listener = Listener(answer, Service(Limits()), RETIRES)
        if first == "ours":
            await listener.open([ours])
        sibling.listen(100)
        if first != "ours":
            await listener.open([ours])
        retiring = asyncio.create_task(listener.retire())
        # The two first places are tried, and then one is held to.
        await until(lambda: steered > 3)
        with contextlib.suppress(BlockingIOError):
            sibling.accept()[0].close()  # our own question
        clients = [socket.socket() for _ in range(20)]
        for client in clients:
            client.setblocking(False)
        try:
            arriving = [loop.sock_connect(client, ("127.0.0.1", port)) for client in clients]
            arrived = asyncio.gather(*arriving)
            await retiring
            await listener.close()
            await arrived
            for _ in clients:
                taken, _address = await loop.sock_accept(sibling)
                taken.close()
            # And each of them is one that was told of its end by the sibling.
            for client in clients:
                assert await loop.sock_recv(client, 1) == b""
        finally:
            for sock in (*clients, sibling):
                sock.close()

    loop_run(story())


def test_a_listener_that_is_held_up_while_it_looks_for_its_sibling_finds_it(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than its question may take: neither place is taken for the other."""

    def held_up(sock: socket.socket, place: int) -> bool:
        asyncio.get_running_loop().call_soon(time.sleep, 0.15)
        return steer(sock, place)

    steer = server._steer
    monkeypatch.setattr(server, "_steer", held_up)

    async def story() -> None:
        ours = bind("127.0.0.1", 0, shared=True)
        listener = Listener(answer, Service(Limits()), RETIRES)
        await listener.open([ours])
        with bind("127.0.0.1", ours.getsockname()[1], shared=True) as sibling:
            sibling.listen(100)
            assert await listener._sibling_of(ours) == 1
            await listener.close()

    loop_run(story())


def test_all_have_their_share_again_after_one_has_ended(loop_run: LoopRun) -> None:
    async def story() -> None:
        ours = bind("127.0.0.1", 0, shared=True)
        port = ours.getsockname()[1]
        siblings = [bind("127.0.0.1", port, shared=True) for _ in range(2)]
        for sibling in siblings:
            sibling.listen(100)
        listener = Listener(answer, Service(Limits()), RETIRES)
        await listener.open([ours])

        def came() -> list[int]:
            """How many of 40 newcomers come to each of the siblings."""
            with contextlib.ExitStack() as open_ones:
                for _ in range(40):
                    open_ones.enter_context(socket.create_connection(("127.0.0.1", port)))
                counts = [0, 0]
                for number, sibling in enumerate(siblings):
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            sibling.accept()[0].close()
                            counts[number] += 1
                return counts

        try:
            server._steer(siblings[0], 0)
            assert sorted(came()) == [0, 40]
            listener.share()
            assert min(came()) > 0
        finally:
            await listener.close()
            for sibling in siblings:
                sibling.close()

    loop_run(story())


def test_who_came_before_a_listener_retires_is_answered(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, http_limits=RETIRES) as member:
            reader, writer = await asyncio.open_connection("127.0.0.1", member.port)
            member.stopping.set()
            await until(lambda: member.worker.pulse.draining)
            writer.write(b"GET /_live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"200"
            writer.close()
            await member.running

    loop_run(story())


def test_consumers_of_a_member_that_ends_come_back_at_once_to_its_sibling(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as first:
            first.emit(3)
            await until(lambda: first.fanout.live_seq == 4)
            second = member_of(
                log, tmp_path, http_limits=RETIRES, persist=False, port=first.port
            )  # fmt: skip
            async with second as member:
                await until(lambda: member.worker.service.fanout)
                streams = []
                while member.fanout.streams < 10:
                    streams.append(await first.stream("?cursor=3"))
                member.stopping.set()

                async def stay(stream: ClientConnection) -> None:
                    """Over a good-bye, if one comes, to the event behind it."""
                    assert await seqs(stream, 1) == [3]
                    with contextlib.suppress(ConnectionClosed):
                        assert await seqs(stream, 1) == [4]
                        return
                    assert stream.close_code == 1012
                    assert stream.close_reason == "restarting; last seq 3"
                    # Not one attempt is refused, or told to come again.
                    async with first.stream("?cursor=3") as again:
                        assert await seqs(again, 2) == [3, 4]

                await until(lambda: member.worker.pulse.draining)
                # Whoever comes meanwhile is not told to come again either.
                for _ in range(20):
                    streams.append(await first.stream("?cursor=3"))
                staying = [asyncio.create_task(stay(stream)) for stream in streams]
                await member.running
                member.running = asyncio.create_task(asyncio.sleep(0))
                await until(lambda: first.fanout.streams == len(streams))
                first.emit(1)
                await asyncio.gather(*staying)
                for stream in streams:
                    await stream.close()

    loop_run(story())


def test_a_member_that_ends_tells_a_newcomer_to_come_again_in_a_second(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            member.worker.service.draining = True
            reader, writer = await asyncio.open_connection("127.0.0.1", member.port)
            writer.write(handshake())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.split()[1] == b"503"
            assert b"\r\nretry-after: 1\r\n" in head
            writer.close()

    loop_run(story())


def test_restarts_of_real_processes_turn_nobody_away_and_lose_nothing(tmp_path: Path) -> None:
    found = asyncio.run(measure(tmp_path, restarts=2, rate=150, consumers=8, retire_s=1.0))
    assert found["wrong"] == []
    # None was told to go to a sibling by one that ends. One that begins may lack the log for a moment.
    begins = "503, again in 5 s"
    assert set(found["became"]) <= {"101", begins}, found
    assert found["became"].get(begins, 0) <= found["connections"] // 20, found
    assert found["became"]["101"] > 50
    closed, back = found["streams_closed"], f"on coming back: {begins}"
    assert "1012 restarting; last seq " in closed
    assert set(closed) <= {"1012 restarting; last seq ", back}, found
    assert closed.get(back, 0) <= found["connections"] // 20, found
