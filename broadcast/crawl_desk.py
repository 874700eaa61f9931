"""How is a request to crawl a host dealt with, and what does it cost whom?

    look in the database ─▶ known? said at once, and dialled where it is not connected
            │ not known
            ▼
    may he ask? ─▶ who is it: describeServer, listHosts ─▶ put in, with every check again

Nothing is stored of a host before it has answered as a PDS. A host that is connected costs one read; one
that is asked about ten times at once is asked once; and a stranger cannot have us ask more of anybody than
Sites allows.

What is said is broadcast.crawl's, what is stored broadcast.crawl_table's.

Source: S-HST-03, S-HST-04, S-HST-11, S-SEC-01, S-SEC-03; lesson 40; reference relay H13 and H14.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from broadcast import crawl, metrics
from broadcast import crawl_answers as answers
from broadcast.client import site
from broadcast.crawl import Rules
from broadcast.crawl_answers import Answer, Described, Known, Outcome
from broadcast.crawl_table import AliasOf, Full
from broadcast.store import Away
from broadcast.xrpc import XrpcError
from common.control import NewHost
from common.fetch import Enough, Fetched, Fetcher, FetchError
from common.limits import TRUSTED_ACCOUNT_LIMIT, is_trusted
from common.rates import Buckets, Rate
from common.sites import Sites
from common.steady import steady_s
from common.target import Target

DESCRIBE_S: Final = 5.0
"""For describeServer, in seconds: DNS, TCP, TLS and the whole answer. Source: the reference relay."""
LIST_S: Final = 3.0
"""For listHosts, in seconds; a PDS refuses it at once."""
ANSWER_BYTES: Final = 64 * 2**10
"""What either may have; real ones have less than a kilobyte."""
CHECKS_MAX: Final = 16
"""Hosts that are asked who they are at a time."""
REFUSED_S: Final = 60.0
"""How long a host that failed is not asked again, in seconds: its operator has time to mend it."""
_REFUSED_MAX: Final = 5_000
DIAL_EVERY: Final = Rate(burst=1, every_s=300.0)
"""How often strangers have one host dialled that is not connected. The reference PDS asks every 20 minutes."""
STRANGER: Final = Rate(burst=10, every_s=60.0)
"""Unknown hosts that one address may name: ten at once, then one a minute."""
SITE: Final = Rate(burst=20, every_s=6.0)
SITE_AT_ONCE: Final = 4
"""Of requests to one site (common/sites.py)."""


class Table(Protocol):
    """See broadcast.crawl_table.CrawlTable."""

    async def look(self, hostname: str) -> crawl.Facts: ...  # noqa: D102
    async def room(self, per_day: int) -> Full | None: ...  # noqa: D102
    async def dial(self, hostname: str) -> bool: ...  # noqa: D102
    async def add(  # noqa: D102
        self, host: NewHost, who: str, canonical: str | None, per_day: int | None
    ) -> crawl.Facts | Full | AliasOf | None: ...
    async def close(self) -> None: ...  # noqa: D102


class CrawlDesk:
    """Requests to crawl, of one broadcaster."""

    def __init__(self, table: Table, rules: Rules) -> None:
        """Call `close` at the end, from the loop that asked."""
        self._table = table
        self._rules = rules
        self._fetcher: Fetcher | None = None
        self._sites = Sites(SITE_AT_ONCE, SITE)
        self._strangers = Buckets(STRANGER)
        self._dials = Buckets(DIAL_EVERY)
        self._checks: dict[str, asyncio.Task[Answer]] = {}
        self._refused: dict[str, tuple[Answer, float]] = {}
        """What was found of hosts that failed, and until when that is said again; the oldest first."""

    async def close(self) -> None:
        """Ask nobody any more."""
        for task in self._checks.values():
            task.cancel()
        await asyncio.gather(*self._checks.values(), return_exceptions=True)
        if self._fetcher is not None:
            await self._fetcher.close()
        await self._table.close()

    async def request(self, body: bytes, client: str, host_header: str | None) -> Answer:
        """Answer a stranger.

        Args:
            body: of com.atproto.sync.requestCrawl. client: his address. host_header: what he calls us.

        Raises:
            Away: the database is not there.
        """
        try:
            text = crawl.parse_body(body)
            target = crawl.parse_host(text, allow_insecure=self._rules.allow_insecure)
        except XrpcError as error:
            return _counted(answers.invalid_request(error))
        if target.hostname in crawl.own_names(host_header):
            return _counted(answers.ourselves(target.hostname))
        return await self._counting(target, client, who=None)

    async def request_for(self, text: str, who: str) -> Answer:
        """Answer an operator, who may add hosts where strangers may not, localhost among them.

        Args:
            text: the host. who: for the audit log.

        Raises:
            Away: the database is not there.
        """
        try:
            target = crawl.parse_host(
                text, allow_insecure=self._rules.allow_insecure, operator=True
            )
        except XrpcError as error:
            return _counted(answers.invalid_request(error))
        return await self._counting(target, "", who=who)

    async def who_is(self, target: Target) -> Described | Answer:
        """Ask a host who it is, within the same bounds as for strangers."""
        return await self._describe(target, None)

    async def _counting(self, target: Target, client: str, who: str | None) -> Answer:
        try:
            return _counted(await self._ask(target, client, who))
        except Away:
            metrics.request_crawl[Outcome.AWAY].inc()
            raise

    async def _ask(self, target: Target, client: str, who: str | None) -> Answer:
        name = target.hostname
        facts = await self._table.look(name)
        answer = crawl.answer_from(facts, name)
        if answer is not None:
            return answer
        if facts.known is not None and not crawl.is_alias(facts):
            return await self._revive(facts.known, is_operator=who is not None)
        per_day = None
        if who is None:
            per_day = crawl.per_day(facts, self._rules)
            refused = None if facts.known else await self._may_add(facts, per_day)
            refused = refused or self._may_ask(client)
            if refused is not None:
                return refused
        return await self._once(target, who, per_day)

    async def _revive(self, known: Known, *, is_operator: bool) -> Answer:
        """Have a host dialled that is known and not connected."""
        now_s = steady_s()
        if not is_operator and self._dials.take(known.hostname, now_s) > now_s:
            self._dials.give_back(known.hostname)
            return answers.waiting(known)
        if await self._table.dial(known.hostname):
            return answers.dialled(known)
        now = await self._table.look(known.hostname)
        return crawl.answer_from(now, known.hostname) or answers.waiting(known)

    async def _may_add(self, facts: crawl.Facts, per_day: int) -> Answer | None:
        if not crawl.is_open(facts, self._rules):
            return answers.closed()
        full = await self._table.room(per_day)
        return None if full is None else answers.day_full(per_day, full.after_s)

    def _may_ask(self, client: str) -> Answer | None:
        now_s = steady_s()
        due_s = self._strangers.take(site(client), now_s)
        if due_s > now_s:
            self._strangers.give_back(site(client))
            return answers.too_many("too many new hosts from this address", due_s - now_s)
        return None

    async def _once(self, target: Target, who: str | None, per_day: int | None) -> Answer:
        """Look at a host and put it in, at a time for all who ask for it."""
        name = target.hostname
        remembered = self._refused.get(name)
        if who is None and remembered is not None and remembered[1] > steady_s():
            return remembered[0]
        # An operator's question is another one: it may go where a stranger's may not.
        key = name if who is None else f"{name} for an operator"
        task = self._checks.get(key)
        if task is None:
            if len(self._checks) >= CHECKS_MAX:
                return answers.busy()
            looking = self._look_at(target, who, per_day)
            task = asyncio.create_task(looking, name=f"crawl {name}"[:80])
            self._checks[key] = task
            task.add_done_callback(lambda task: self._done(key, task))
        # Whoever goes away leaves it to the others.
        return await asyncio.shield(task)

    def _done(self, key: str, task: asyncio.Task[Answer]) -> None:
        self._checks.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waits for it has it; perhaps nobody does any more

    async def _look_at(self, target: Target, who: str | None, per_day: int | None) -> Answer:
        found = await self._describe(target, who)
        if isinstance(found, Answer):
            return found
        return await self._add(target, found, who, per_day)

    async def _describe(self, target: Target, who: str | None) -> Described | Answer:
        name = target.hostname
        try:
            told = await self._get(target, who, "com.atproto.server.describeServer", DESCRIBE_S)
            found = crawl.described(name, told.status, told.server, told.body)
            if isinstance(found, Described) and await self._is_relay(target, who):
                found = answers.relay(name, "it answers com.atproto.sync.listHosts")
        except Enough as error:
            return answers.too_many(
                f"hosts like {name} were asked often enough", error.after_s or 60.0
            )
        except FetchError as error:
            found = answers.not_found(name, str(error))
        if isinstance(found, Answer):
            self._remember(name, found)
        return found

    async def _is_relay(self, target: Target, who: str | None) -> bool:
        try:
            told = await self._get(target, who, "com.atproto.sync.listHosts?limit=1", LIST_S)
        except Enough:
            raise
        except FetchError:
            return False
        return crawl.RELAY in told.server or crawl.lists_hosts(told.status, told.body)

    async def _get(self, target: Target, who: str | None, method: str, limit_s: float) -> Fetched:
        if self._fetcher is None:
            self._fetcher = Fetcher(allow_insecure=self._rules.allow_insecure)
        scheme = "https" if target.tls else "http"
        return await self._fetcher.get(
            f"{scheme}://{target.hostname}/xrpc/{method}",
            trusted=who is not None and target.is_local,
            max_bytes=ANSWER_BYTES,
            limit_s=limit_s,
            # The stream is not looked for behind a redirect, either.
            hops=0,
            sites=self._sites if who is None else None,
        )

    def _remember(self, name: str, answer: Answer) -> None:
        self._refused.pop(name, None)
        self._refused[name] = answer, steady_s() + REFUSED_S
        while len(self._refused) > _REFUSED_MAX:
            del self._refused[next(iter(self._refused))]

    async def _add(
        self, target: Target, found: Described, who: str | None, per_day: int | None
    ) -> Answer:
        name = target.hostname
        trusted = is_trusted(name, self._rules.trusted_domains)
        host = NewHost(
            name,
            target.tls,
            TRUSTED_ACCOUNT_LIMIT if trusted else self._rules.account_limit,
            trusted,
            0,
            "crawl" if who is None else "operator",
            found.server_did,
        )
        why_not = await self._table.add(host, who or "relay", found.canonical, per_day)
        if why_not is None:
            return answers.added(name, found)
        if isinstance(why_not, AliasOf):
            return answers.alias(name, why_not.hostname)
        if isinstance(why_not, Full):
            return answers.day_full(per_day or 0, why_not.after_s)
        answer = crawl.answer_from(why_not, name)
        if answer is not None:
            return answer
        # Somebody else has added it meanwhile; or it was an alias, and is one no longer.
        assert why_not.known is not None
        return answers.dialled(why_not.known)


def _counted(answer: Answer) -> Answer:
    metrics.request_crawl[answer.outcome].inc()
    return answer
