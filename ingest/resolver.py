"""What does the DID document of an account say now?

    ask ──▶ lines ──▶ worker: fetch ──▶ conclusive: on_resolved
              ▲                    └──▶ cannot be told: on_unresolved, and again after a back-off
              └────────────────────────┘

One question for each DID at a time. The directory has workers of its own, so that slow did:web
hosts keep nobody else waiting; and each host that needs answers has a line of its own. What was asked stays asked until somebody needs it no longer.

Source: S-IDN-02, S-IDN-04, S-IDN-09, S-IDN-10.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

from common.syntax import PLC_METHOD
from ingest import metrics
from ingest.backoff import Backoff
from ingest.config import ResolverLimits
from ingest.did_document import (
    MAX_DOCUMENT_BYTES,
    Broken,
    Identity,
    NotFound,
    Outcome,
    Unavailable,
    document_url,
    parse_document,
)
from ingest.directory import Answer, Directory
from ingest.fetch import Fetcher, FetchError
from ingest.judge import Known
from ingest.questions import Need, Questions

_GONE: Final = (404, 410)


class Resolver:
    """Looks up DIDs for one process."""

    def __init__(
        self,
        fetcher: Fetcher,
        limits: ResolverLimits,
        *,
        plc_url: str,
        allow_insecure: bool,
        on_resolved: Callable[[str, Known, float, float], None],
        on_unresolved: Callable[[str, float], None],
        still_wanted: Callable[[str], bool],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is answered until `run`.

        Args:
            plc_url: of the did:plc directory, without a slash at the end.
            on_resolved: DID, what it says, when it was asked, now; Unix seconds.
            on_unresolved: DID, now. still_wanted: whether to go on asking.
            after: called after each answer has been dealt with.
        """
        self._fetcher = fetcher
        self._limits = limits
        self._plc_url = plc_url.rstrip("/")
        self._allow_insecure = allow_insecure
        self._on_resolved = on_resolved
        self._on_unresolved = on_unresolved
        self._still_wanted = still_wanted
        self._after = after
        self._directory = Directory()
        self._plc = _Lines(limits.plc_workers)
        self._web = _Lines(limits.web_workers)
        self._askers: dict[str, list[int]] = {}
        """The hosts that need the answer, for each open question."""
        self._queued: set[str] = set()
        """Open questions that stand in line, and neither wait for their time nor are being asked."""
        self._backoffs: dict[str, Backoff] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._random = Random()

    async def run(self) -> None:
        """Answer questions until cancelled; open ones stay unanswered."""
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._limits.plc_workers):
                    workers.create_task(self._work(self._plc))
                for _ in range(self._limits.web_workers):
                    workers.create_task(self._work(self._web))
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    def ask(self, did: str, host: int, delay_s: float = 0.0, need: Need = Need.FIRST) -> None:  # noqa: ARG002 - soon
        """Look a DID up after so many seconds; a host asks once until it is answered or withdrawn.

        Where another host has asked already it is one question, that stands in both lines.
        """
        askers = self._askers.get(did)
        if askers is not None and host in askers:
            return
        if askers is not None:
            askers.append(host)
            if did in self._queued:
                self._lines(did).put(host, did)
            return
        self._askers[did] = [host]
        self._backoffs[did] = Backoff(
            self._limits.retry_first_s, self._limits.retry_longest_s, self._random
        )
        self._later(did, delay_s)

    def may_give_up(self, did: str, now_s: float) -> bool:
        """Whether a DID that cannot be resolved is alone in that; of a did:web it always is."""
        if not did.startswith(PLC_METHOD):
            return True
        # Everybody's turn has come by then, twice.
        recovery_s = 2 * (self._limits.retry_longest_s + self._limits.request_s)
        return not self._directory.has_failed_within(recovery_s, now_s)

    def _later(self, did: str, delay_s: float) -> None:
        if delay_s <= 0:
            self._line_up(did)
            return

        def put() -> None:
            del self._timers[did]
            self._line_up(did)

        self._timers[did] = asyncio.get_running_loop().call_later(delay_s, put)

    def _lines(self, did: str) -> _Lines:
        return self._plc if did.startswith(PLC_METHOD) else self._web

    def _line_up(self, did: str) -> None:
        self._queued.add(did)
        for host in self._askers[did]:
            self._lines(did).put(host, did)

    async def _work(self, lines: _Lines) -> None:
        while True:
            host, did = await lines.get()
            # It may stand in another line as well, and have been asked from there.
            if did in self._queued:
                self._queued.remove(did)
                await self._answer(did)
            lines.done(host)

    async def _answer(self, did: str) -> None:
        asked_s = time.time()
        outcome = await self.look_up(did)
        now_s = time.time()
        if isinstance(outcome, Unavailable):
            metrics.lookups["unavailable"].inc()
            self._on_unresolved(did, now_s)
            if self._still_wanted(did):
                self._later(did, self._backoffs[did].next_s())
            else:
                del self._backoffs[did], self._askers[did]
            self._after()
            return
        metrics.lookups[_label(outcome)].inc()
        # First, as the answer may bring up the next question about the same DID.
        del self._backoffs[did], self._askers[did]
        self._on_resolved(did, outcome, asked_s, now_s)
        self._after()

    async def look_up(self, did: str) -> Outcome:
        """Look a DID up once, now."""
        outcome = await self._fetch(did)
        if not did.startswith(PLC_METHOD):
            return outcome
        now_s = time.time()
        if isinstance(outcome, Unavailable):
            self._directory.note(did, Answer.FAILED, now_s)
        elif isinstance(outcome, NotFound):
            self._directory.note(did, Answer.NOT_FOUND, now_s)
            # It costs a second question, and a directory that has lost its mind drops nothing.
            known = [other for other in self._directory.known_dids if other != did]
            if (known or self._directory.is_suspect(now_s)) and not await self._finds_one_of(known):
                return Unavailable("the directory no longer finds whom it found before")
        else:
            self._directory.note(did, Answer.FOUND, now_s)
        return outcome

    async def _finds_one_of(self, known: list[str]) -> bool:
        """Whether the directory still finds one of the DIDs that it found before."""
        for did in known:
            if isinstance(await self._fetch(did), Identity | Broken):
                return True
        return False

    async def _fetch(self, did: str) -> Outcome:
        url = document_url(did, self._plc_url, allow_insecure=self._allow_insecure)
        if isinstance(url, Broken):
            return url
        try:
            status, body = await self._fetcher.get(
                url,
                trusted=did.startswith(PLC_METHOD),
                max_bytes=MAX_DOCUMENT_BYTES,
                limit_s=self._limits.request_s,
                hops=self._limits.hops,
            )
        except FetchError as error:
            return Unavailable(str(error))
        if status in _GONE:
            return NotFound(f"status {status}")
        if status != 200:
            return Unavailable(f"status {status}")
        # A page that is no document says as little as a failure: a proxy's, an error's.
        known = parse_document(body, did, allow_insecure=self._allow_insecure)
        return Unavailable("no JSON object") if known is None else known


class _Lines:
    """Questions, and the workers that wait for one that they may ask."""

    def __init__(self, workers: int) -> None:
        self._questions = Questions(workers)
        self._idle: deque[asyncio.Future[None]] = deque()

    def put(self, host: int, did: str) -> None:
        """See Questions."""
        self._questions.put(host, did)
        self._wake()

    async def get(self) -> tuple[int, str]:
        """See Questions.next; waits for one."""
        while (question := self._questions.next()) is None:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle
        return question

    def done(self, host: int) -> None:
        """See Questions."""
        self._questions.done(host)
        self._wake()

    def _wake(self) -> None:
        if self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)


def _label(outcome: Known) -> str:
    if isinstance(outcome, Identity):
        return "found"
    return "broken" if isinstance(outcome, Broken) else "not_found"
