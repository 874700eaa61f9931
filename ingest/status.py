"""How is an account, according to the host that speaks for it?

    ask ──▶ line of its host ──▶ worker: getRepoStatus ──▶ on_told
              ▲                         └── cannot be told: again, some times
              └─────────────────────────────┘

Asked where events arrive for an account that is thought inactive: its `#account` may have been
missed. A host is asked at a rate that it bears, and one that does not answer keeps no other's
questions waiting. Every question is answered within a bounded time, "nothing could be learned"
being an answer too. Which answer means what is ingest.inquiry's.

Source: S-ACC-17, S-ACC-18; com.atproto.sync.getRepoStatus.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.fetch import Fetcher, FetchError
from common.rates import Buckets
from common.steady import steady_s
from common.target import Target
from ingest import metrics
from ingest.config import StatusLimits
from ingest.inquiry import MAX_ANSWER_BYTES, Told, read_answer, status_url
from ingest.questions import Questions


class StatusDesk:
    """Asks hosts about accounts, for one process."""

    def __init__(
        self,
        fetcher: Fetcher,
        limits: StatusLimits,
        *,
        target_of: Callable[[int], Target | None],
        on_told: Callable[[str, int, Told, float], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is answered until `run`.

        Args:
            target_of: the host with this number, None when it is read no longer.
            on_told: DID, host, answer, now. after: called after each answer has been dealt with.
        """
        self._fetcher = fetcher
        self._limits = limits
        self._target_of = target_of
        self._on_told = on_told
        self._after = after
        self._questions = Questions(limits.workers)
        self._tokens = Buckets(limits.host_rate)
        self._more = asyncio.Event()
        self._failures: dict[tuple[str, int], int] = {}
        """Open questions, and how often each was asked in vain."""
        self._timers: dict[tuple[str, int], asyncio.TimerHandle] = {}

    async def run(self) -> None:
        """Answer questions until cancelled; open ones stay unanswered."""
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._limits.workers):
                    workers.create_task(self._work())
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    def ask(self, did: str, host: int) -> None:
        """Ask a host about a DID; not again before it is answered."""
        self._failures[did, host] = 0
        self._later(did, host, 0.0)

    def _later(self, did: str, host: int, delay_s: float) -> None:
        now_s = steady_s()
        delay_s = self._tokens.take(host, now_s + delay_s) - now_s

        def put() -> None:
            self._timers.pop((did, host), None)
            self._questions.put(host, did)
            self._more.set()

        if delay_s > 0:
            self._timers[did, host] = asyncio.get_running_loop().call_later(delay_s, put)
        else:
            put()

    async def _work(self) -> None:
        while True:
            while (question := self._questions.next()) is None:
                self._more.clear()
                await self._more.wait()
            await self._answer(question.did, question.host)
            self._questions.done(question)
            self._more.set()

    async def _answer(self, did: str, host: int) -> None:
        asked_s = steady_s()
        told = await self._fetch(did, host, asked_s)
        if told is None:
            failures = self._failures[did, host] = self._failures[did, host] + 1
            if failures < self._limits.tries and self._target_of(host) is not None:
                metrics.statuses["again"].inc()
                self._later(did, host, self._limits.retry_first_s * 2 ** (failures - 1))
                return
            told = Told(known=False, active=False, status=None, asked_s=asked_s)
        metrics.statuses[_label(told)].inc()
        # First, as the answer may bring up the next question about the same account.
        del self._failures[did, host]
        self._on_told(did, host, told, steady_s())
        self._after()

    async def _fetch(self, did: str, host: int, asked_s: float) -> Told | None:
        target = self._target_of(host)
        if target is None:
            return None
        try:
            code, body, _server = await self._fetcher.get(
                status_url(target, did),
                # S-SEC-01: an address of this machine is read only where an operator named it.
                trusted=target.is_local,
                max_bytes=MAX_ANSWER_BYTES,
                limit_s=self._limits.request_s,
                hops=0,
            )
        except FetchError:
            return None
        return read_answer(code, body, did, asked_s)


def _label(told: Told) -> str:
    if not told.known:
        return "unavailable"
    return "active" if told.active else "inactive"
