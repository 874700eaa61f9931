"""The one loop of a broadcaster: who is connected to whom, and in which order does it end?

    ports open and say 503 ─▶ the log appears ─▶ chunks flow ─▶ SIGTERM ─▶ the port is left to the
    siblings ─▶ streams end on a frame

Whatever is missing at the start is waited for. The end lets nobody in, has every stream tell its
last seq, and lets go of the log and the database last.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import zmq

from broadcast.admin_api import AdminApi, Setup
from broadcast.admin_reference import Defaults
from broadcast.alerts import Rule
from broadcast.aliases import Aliases
from broadcast.client import Clients
from broadcast.config import DATABASE_CHECK_S, READ_THREADS, RETIRE_S, SHARE_S, HttpLimits, Limits
from broadcast.crawl import Rules
from broadcast.crawl_desk import CrawlDesk
from broadcast.crawl_table import CrawlTable
from broadcast.curtain import Curtain
from broadcast.fanout import Fanout
from broadcast.health import Pulse
from broadcast.inlet import Inlet
from broadcast.playback import Playback
from broadcast.server import Listener, bind
from broadcast.store import Store
from broadcast.subscriber import Service
from broadcast.views import Views
from common import password
from common.conservation import serve
from common.log import LogReader
from common.process import SAY_AGAIN_S, Context
from common.segments import SegmentReader
from common.transport import LoopSocket, chunk_inlet

_LOOK_S: Final = 1.0
"""How often consumers and the log's head are looked after, in seconds."""
_WAIT_S: Final = 0.1
"""How often a log that is not there is looked for, in seconds."""
_log = logging.getLogger("standpipe")


async def broadcast(context: Context) -> None:
    """Serve until `context.stopping` is set, then drain.

    Raises:
        OSError: a port cannot be had.
        Exception: the log contradicts itself or cannot be read.
    """
    settings, paths = context.settings, context.paths
    private = bind("127.0.0.1", settings.private_port_of(context.member), shared=False)
    public = bind(settings.bind, settings.port, shared=True)
    worker = Worker(
        open_reader=lambda: SegmentReader(paths.log_dir),
        log_dir=paths.log_dir,
        chunks_endpoint=paths.chunks_endpoint,
        database_url=settings.database_url or paths.embedded_database_url,
        limits=Limits(stall_s=settings.consumer_stall_s),
        http_limits=HttpLimits(retire_s=RETIRE_S if settings.broadcast_processes > 1 else 0.0),
        admin=Setup(
            passwords=password.ensure(settings, paths),
            siblings=settings.sibling_relays,
            member=context.member,
            run_dir=paths.run_dir,
            defaults=Defaults(settings.request_crawl, settings.new_hosts_per_day),
            alerts=Rule(
                settings.account_limit_alert,
                settings.account_limit_alert_interval_s,
                settings.account_limit_alert_repeat_s,
            ),
        ),
        crawl=Rules(
            settings.request_crawl,
            settings.new_hosts_per_day,
            settings.default_account_limit,
            settings.trusted_domains,
            settings.allow_insecure_hosts,
        ),
        trusted_proxies=settings.trusted_proxies,
    )

    def ready() -> None:
        ports = {"port": public.getsockname()[1], "private_port": private.getsockname()[1]}
        context.telemetry.tell(**ports)
        _log.info("listening", extra={"fields": ports})
        context.ready()

    await worker.run([public, private], context.stopping, ready)


class Worker:
    """One broadcaster, from its ports to its log."""

    def __init__(
        self,
        open_reader: Callable[[], LogReader],
        chunks_endpoint: str,
        database_url: str,
        limits: Limits | None = None,
        http_limits: HttpLimits | None = None,
        admin: Setup | None = None,
        crawl: Rules | None = None,
        trusted_proxies: tuple[str, ...] = (),
        log_dir: Path | None = None,
    ) -> None:
        """Opens nothing. Defaults: the limits of broadcast.config, and no admin.

        Args: log_dir: where persist says whom to hide; None where nobody is.
        """
        self._log_dir = log_dir
        table = CrawlTable(database_url)
        self.crawl = CrawlDesk(table, crawl or Rules())
        self._aliases = Aliases(table, self.crawl)
        self._clients = Clients(trusted_proxies)
        self.pulse = Pulse()
        admin = admin or Setup()
        self._is_first = admin.member == 0
        self.service = Service(limits or Limits(), self._clients, admin.member)
        self._open_reader = open_reader
        self._endpoint = chunks_endpoint
        self._store = Store(database_url)
        self._http_limits = http_limits or HttpLimits()
        self._admin = AdminApi(
            admin, database_url, self.service, self._clients, self._http_limits, self.crawl
        )
        self._inlet: Inlet | None = None
        self._knocked = False

    async def run(
        self, sockets: list[socket.socket], stopping: asyncio.Event, ready: Callable[[], None]
    ) -> None:
        """Serve bound sockets until `stopping` is set. ready: called once they accept."""
        playback = Playback(self._open_reader, READ_THREADS, Curtain(self._log_dir))
        views = Views(
            self._store,
            self.pulse,
            self._http_limits,
            self.crawl,
            self._clients,
            self._admin.door,
            self._admin.routes(),
        )
        if len(sockets) > 1:
            self._admin.door.private_port = sockets[1].getsockname()[1]
        listener = Listener(views.app(), self.service, self._http_limits)
        await self._store.open()
        self._admin.open()
        await listener.open(sockets)
        zmq_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        chunks = chunk_inlet(zmq_context)
        # Before the log's head is read: what is published between shows as a gap or as seen.
        chunks.connect(self._endpoint)
        inlet_socket = LoopSocket(chunks, on_message=self._on_message, pace_s=self._pace_s)
        watching = asyncio.create_task(self._watch_database(), name="database check")
        sharing = asyncio.create_task(_keep_sharing(listener), name="shares of the port")
        naming = None
        if self._is_first:
            naming = asyncio.create_task(self._aliases.run(), name="aliases")
        ready()
        try:
            if await self._log_appears(playback, stopping):
                await self._flow(playback, stopping)
        finally:
            self.pulse.draining = True
            sharing.cancel()
            if stopping.is_set():
                # First the port, then the streams: who comes back at once finds a sibling. Who
                # comes here until then is served, and told with the others.
                await listener.retire()
            self.service.draining = True
            inlet_socket.close()
            if self._inlet is not None:
                await self._inlet.close()
            await listener.close()
            watching.cancel()
            playback.close()
            zmq_context.term()
            await self._admin.close()
            if naming is not None:
                naming.cancel()
            await self.crawl.close()
            await self._store.close()

    async def _watch_database(self) -> None:
        """Ask on a clock of its own: answers from memory would hide that nobody is there."""
        loop = asyncio.get_running_loop()
        self.pulse.database_s = loop.time()
        while True:
            if await self._store.answers():
                self.pulse.database_s = loop.time()
            await asyncio.sleep(DATABASE_CHECK_S)

    async def _log_appears(self, playback: Playback, stopping: asyncio.Event) -> bool:
        """Wait until there is a log, and it is known whom to hide: it has events, or its writer has spoken.

        Raises:
            HiddenError, OSError: whom to hide cannot be read.
        """
        said_s = float("-inf")
        while not stopping.is_set():
            # Beside a log that was restored without it there is no such file until persist has begun.
            playback.curtain.look()
            if playback.curtain.is_known and (playback.durable_seq or self._knocked):
                return True
            if asyncio.get_running_loop().time() - said_s >= SAY_AGAIN_S:
                said_s = asyncio.get_running_loop().time()
                _log.info("waiting for persist", extra={"fields": {"endpoint": self._endpoint}})
            await _until(stopping, _WAIT_S)
        return False

    async def _flow(self, playback: Playback, stopping: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[None] = loop.create_future()

        def fail(error: BaseException) -> None:
            if not failed.done():
                failed.set_exception(error)

        fanout = Fanout(playback, self.service.limits)
        self._inlet = Inlet(playback, fanout.live_seq, self.pulse, fanout.publish, fail)
        self.service.fanout = fanout
        self.pulse.opened = True
        while not stopping.is_set() and not failed.done():
            self._inlet.look()
            fanout.sweep(loop.time())
            serve(self._inlet.balance(fanout.published))
            await _until(stopping, _LOOK_S, failed)
        if failed.done():
            failed.result()
        failed.cancel()

    def _pace_s(self) -> float:
        """How long chunks gather, in seconds; the more streams, the dearer each write of one."""
        limits, fanout = self.service.limits, self.service.fanout
        streams = fanout.streams if fanout is not None else 0
        return min(limits.tick_max_s, limits.tick_s + streams * limits.tick_stream_s)

    def _on_message(self, parts: list[bytes]) -> None:
        self._knocked = True
        if self._inlet is not None:
            self._inlet.on_message(parts)


async def _keep_sharing(listener: Listener) -> None:
    """At a start and now and then: a sibling that ended may have left the port's shares uneven."""
    while True:
        listener.share()
        await asyncio.sleep(SHARE_S)


async def _until(
    stopping: asyncio.Event, within_s: float, failed: asyncio.Future[None] | None = None
) -> None:
    """Sleep, but wake up when the process shall stop or something has failed."""
    stop = asyncio.ensure_future(stopping.wait())
    waited: list[asyncio.Future[Any]] = [stop]
    if failed is not None:
        waited.append(failed)
    await asyncio.wait(waited, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
