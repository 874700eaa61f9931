"""Does a table have one thread, whoever asks, and whenever he loses patience?"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from broadcast.store import Store as Reading
from common.database import connect, ensure_schema
from common.owner import WrongThread
from ingest.asker import Asker
from ingest.documents import Document
from ingest.host_table import HostTable
from ingest.lease_table import LeaseTable
from ingest.reject_table import RejectTable
from ingest.share import Me
from ingest.store import Store
from tests.fix_loop import LoopRun
from tests.fix_net import eventually


def test_every_question_is_asked_in_the_one_thread_and_answered(loop_run: LoopRun) -> None:
    closed: list[int] = []

    def fails() -> None:
        raise psycopg.OperationalError("away")

    async def story() -> None:
        asker = Asker("test", lambda: closed.append(threading.get_ident()))
        threads = {await asker.ask(threading.get_ident) for _ in range(5)}
        assert len(threads) == 1
        assert threading.get_ident() not in threads
        with pytest.raises(psycopg.OperationalError, match="away"):
            await asker.ask(fails)
        asker.end()
        await asyncio.to_thread(eventually, lambda: closed)
        assert closed == [*threads]

    loop_run(story())


def test_who_gives_up_waiting_does_not_take_the_connection_from_under_its_thread(
    loop_run: LoopRun,
) -> None:
    entered, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def hangs() -> None:
        entered.set()
        assert go_on.wait(20)
        assert not closed.is_set()

    async def story() -> None:
        asker = Asker("test", closed.set)
        asking = asyncio.create_task(asker.ask(hangs))
        await asyncio.to_thread(entered.wait, 20)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        asker.end()
        assert not closed.is_set()
        go_on.set()
        assert await asyncio.to_thread(closed.wait, 20)

    loop_run(story())


def refused(work: Callable[[], object]) -> bool:
    """Whether it is refused to another thread than the one that used it before."""
    caught: list[BaseException] = []

    def trespass() -> None:
        try:
            work()
        except WrongThread as error:
            caught.append(error)

    thread = threading.Thread(target=trespass)
    thread.start()
    thread.join()
    return bool(caught)


def test_no_connection_of_ingest_is_lent_to_another_thread(postgres_url: str) -> None:
    with closing(connect(postgres_url, "test")) as connection:
        ensure_schema(connection)
    with (
        closing(HostTable(lambda: postgres_url)) as hosts,
        closing(RejectTable(lambda: postgres_url)) as rejects,
        closing(LeaseTable(lambda: postgres_url)) as leases,
    ):
        uses: list[Callable[[], object]] = [
            hosts.wanted,
            rejects.forget_old,
            lambda: leases.look(Me(0, 1, 1)),
        ]
        for use in uses:
            use()
            assert refused(use), use
        for close in (hosts.close, rejects.close, leases.close):
            assert refused(close), close


def test_the_documents_connection_and_the_readers_pool_are_nobody_elses(
    loop_run: LoopRun, postgres_url: str
) -> None:
    with closing(connect(postgres_url, "test")) as connection:
        ensure_schema(connection)
    found: list[str] = []

    def told(did: str, _document: Document | None) -> None:
        found.append(did)

    async def story() -> None:
        documents = Store(lambda: postgres_url, "test", told)
        reading = Reading(postgres_url)
        await reading.open()
        try:
            assert documents.find("did:plc:a")
            while not found:
                await asyncio.sleep(0.01)
            with pytest.raises(WrongThread):
                documents._find(["did:plc:a"])
            await reading.hosts(0, 1)
            elsewhere = asyncio.to_thread(refused, lambda: asyncio.run(reading.hosts(0, 1)))
            assert await elsewhere
        finally:
            await documents.close()
            await reading.close()

    loop_run(story())
