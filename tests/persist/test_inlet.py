"""Does every answer reach the process that is there, and does nothing wait for one that is not?"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from common import transport
from common.chunk import ChunkKind, encode_chunk
from common.envelope import NEVER_SEEN, Batch, Reply, decode_reply, encode_batch
from common.owner import WrongThread
from common.transport import batch_outlet
from persist.inlet import Inlet
from persist.outlet import Outlet
from tests.fix_net import eventually
from tests.persist.events import judged
from tests.persist.running import Context


@pytest.fixture
def context() -> Iterator[Context]:
    context: Context = zmq.Context()
    yield context
    context.term()


@pytest.fixture
def endpoint() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="sp-"))
    yield f"ipc://{folder}/socket"
    shutil.rmtree(folder)


def greet(dealer: zmq.Socket[bytes], inlet: Inlet) -> bytes:
    """One batch sent and taken; the route it came on."""
    dealer.send_multipart(encode_batch(Batch(0, 1)))
    return taken(inlet)[0]


def taken(inlet: Inlet) -> tuple[bytes, Batch]:
    """The next batch, and the route it came on."""
    found = eventually(inlet.receive)
    assert found
    return found


def test_a_batch_comes_as_it_was_sent(context: Context, endpoint: str) -> None:
    with closing(Inlet(context, endpoint)) as inlet, batch_outlet(context, 3) as dealer:
        assert inlet.receive() is None
        dealer.connect(endpoint)
        sent = [judged(number, fill=number * 1000) for number in range(5)]
        batch = Batch(3, 9, [event for event, _ in sent], [frame for _, frame in sent])
        dealer.send_multipart(encode_batch(batch))
        route, received = taken(inlet)
        assert received == batch
        assert route.startswith(b"ingest-3-")


def test_answers_that_find_no_room_are_joined_and_none_is_lost(
    context: Context, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "REPLIES_HIGH_WATER", 2)
    with closing(Inlet(context, endpoint)) as inlet, batch_outlet(context, 0) as dealer:
        dealer.connect(endpoint)
        route = greet(dealer, inlet)
        many = 20_000
        for position in range(many):
            inlet.send(
                route,
                Reply(1, position, logged=[position], duplicate=[-position],
                      back=[(position, NEVER_SEEN)]),
            )  # fmt: skip
        # It cannot all have fitted into the queues.
        assert inlet._unsent
        logged: list[int] = []
        duplicate: list[int] = []
        back: list[int] = []
        messages = 0
        while len(logged) < many:
            inlet.send_again()
            assert dealer.poll(60_000)
            reply = decode_reply(dealer.recv_multipart())
            logged += reply.logged
            duplicate += reply.duplicate
            back += [position for position, _ in reply.back]
            messages += 1
        assert logged == back == list(range(many))
        assert duplicate == [-position for position in range(many)]
        assert reply.durable_seq == many - 1
        assert messages < many
        assert not inlet._unsent


def test_an_answer_for_a_process_that_is_gone_is_dropped_and_counted(
    context: Context, endpoint: str
) -> None:
    with closing(Inlet(context, endpoint)) as inlet:
        with batch_outlet(context, 0) as dealer:
            dealer.connect(endpoint)
            route = greet(dealer, inlet)

        def dropped() -> bool:
            inlet.send(route, Reply(1, 1))
            return inlet.lost_replies > 0

        eventually(dropped)


def test_a_process_never_hears_what_was_meant_for_its_predecessor(
    context: Context, endpoint: str
) -> None:
    # Positions begin anew with each process: an old answer would acknowledge new events.
    with closing(Inlet(context, endpoint)) as inlet:
        with batch_outlet(context, 0) as first:
            first.connect(endpoint)
            old_route = greet(first, inlet)
        with batch_outlet(context, 0) as second:
            second.connect(endpoint)
            new_route = greet(second, inlet)
            inlet.send(old_route, Reply(1, 1, logged=[1]))
            inlet.send(new_route, Reply(1, 1, logged=[2]))
            assert second.poll(60_000)
            assert decode_reply(second.recv_multipart()).logged == [2]


def test_sockets_are_refused_to_another_thread(context: Context, endpoint: str) -> None:
    beat = encode_chunk(ChunkKind.GROUP, 1, 1, 0, 0, [], b"")
    caught: list[BaseException] = []
    with (
        closing(Inlet(context, endpoint)) as inlet,
        closing(Outlet(context, endpoint + "-out")) as outlet,
    ):

        def trespass() -> None:
            for use in (
                inlet.receive,
                lambda: inlet.send(b"x", Reply(1, 1)),
                lambda: outlet.publish(beat),
            ):
                try:
                    use()
                except WrongThread as error:
                    caught.append(error)

        thread = threading.Thread(target=trespass)
        thread.start()
        thread.join()
    assert len(caught) == 3
