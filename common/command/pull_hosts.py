"""How does a relay that runs get the hosts that another relay reads?

    listHosts, page by page ─▶ which are new? ─▶ describeServer of each, so many a second ─▶ ControlPlane

Nothing is remembered but the table: whoever begins again passes by what is there. Source: S-HST-10; the
reference relay's pull-hosts, which needs the relay stopped.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson

from common.command.host_check import other_name, server_did
from common.command.listed import BadPage, Page, judge, parse_page
from common.command.parsers import Commands, command, fraction, json_option, whole
from common.command.session import Refused, Session, at_tables, say
from common.command.words import visible
from common.control import NewHost, parents
from common.fetch import Fetcher, FetchError
from common.limits import TRUSTED_ACCOUNT_LIMIT, is_trusted
from common.target import Target

PAGE: Final = 500
PAGE_BYTES: Final = 4_000_000
PAGE_S: Final = 30.0
AT_ONCE: Final = 32
"""Hosts that are being asked at a time, at most."""
PER_SECOND: Final = 10.0
_TEXT: Final = """\
Adds the hosts that another relay reads, while this one runs: takes the active and idle ones that have
said something, passes by those that are here and those that are not of the public internet, asks each for
its describeServer, and reads it from now on (live). One line is printed for each host:

  added               it is read from now on
  exists              it is here already
  banned DOMAIN       it is in a banned domain
  alias HOST          it calls itself by the name of another host, which is here
  status=… · no-cursor · non-public     the other relay's word of it, or its name, forbids it
  failed WHY          it does not answer as a PDS does

May be interrupted and begun again at any time: what is here is passed by without being asked, and
--cursor goes on at a page.

  standpipe pull-hosts
  standpipe pull-hosts --relay https://relay.example.com --rate 50
  standpipe pull-hosts --limit 20

--json prints one object a line: host, outcome (added, exists, banned, alias, skipped, failed), detail; the last
one has done (whether it came to the end), cursor (of the page to go on at, or null), and outcomes

exit code: 0 to the end · 1 the other relay or the database does not answer, or interrupted
           2 wrong settings or words
"""


class Outcome(NamedTuple):
    """What became of one host."""

    host: str
    outcome: str
    detail: str = ""

    def __str__(self) -> str:
        """For people; what was skipped is told by why."""
        told = self.detail if self.outcome == "skipped" else f"{self.outcome} {self.detail}"
        return f"{visible(self.host)}: {visible(told)}".rstrip()


def register(commands: Commands) -> None:
    """Add `standpipe pull-hosts`."""
    parser = command(commands, "pull-hosts", "add the hosts of another relay", _TEXT, _pull_hosts)
    parser.add_argument("--relay", type=relay_url, metavar="URL", help="none: STANDPIPE_RELAY_HOST")
    parser.add_argument("--no-check", action="store_true", help="do not ask for describeServer")
    parser.add_argument(
        "--rate", type=fraction(0.1, 1000), default=PER_SECOND, metavar="N",
        help=f"hosts that are asked a second; {PER_SECOND:g}",
    )  # fmt: skip
    parser.add_argument("--limit", type=whole(1, 10**9), metavar="N", help="add so many at most")
    parser.add_argument("--cursor", default="", metavar="CURSOR", help="of the page to begin with")
    parser.add_argument(
        "--accounts", type=whole(0, 10**9), metavar="N",
        help="account limit; none: STANDPIPE_DEFAULT_ACCOUNT_LIMIT",
    )  # fmt: skip
    json_option(parser, "object a line")


def relay_url(word: str) -> str:
    """Reads a relay: a name or a URL."""
    url = word if "://" in word else f"https://{word}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise argparse.ArgumentTypeError(f"{word!r} is no URL; write https://relay.example.com")
    return url.rstrip("/")


def _pull_hosts(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        relay = chosen.relay or session.settings.relay_host
        if not relay:
            raise Refused("name a relay with --relay: STANDPIPE_RELAY_HOST is empty")
        pull = Pull(session, chosen, relay)
        done = False
        try:
            asyncio.run(pull.run())
            done = True
        except KeyboardInterrupt:
            say("interrupted")
        except (FetchError, BadPage) as error:
            say(f"{relay}: {error}")
        finally:
            pull.summary(done=done)
        return 0 if done else 1

    return at_tables(work)


class Pull:
    """One run."""

    def __init__(self, session: Session, chosen: argparse.Namespace, relay: str) -> None:
        self._session = session
        self._chosen = chosen
        self._relay = relay
        self._insecure = session.settings.allow_insecure_hosts
        self._outcomes: Counter[str] = Counter()
        self._cursor: str | None = chosen.cursor
        """Of the page that is being worked at; None: at the end."""
        self._begun_s: float | None = None
        self._free = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Go through all pages.

        Raises:
            FetchError, BadPage: the other relay does not answer, or not as it should.
            psycopg.Error: the database does not.
        """
        seen: set[str] = set()
        async with Fetcher(allow_insecure=self._insecure) as fetcher:
            while self._cursor is not None and not self._enough():
                page = await self._page(fetcher, self._cursor)
                await self._work(fetcher, page)
                if page.cursor is not None and page.cursor in seen:
                    raise BadPage(f"it comes back to the cursor {page.cursor}")
                if self._enough():
                    return
                seen.add(page.cursor or "")
                self._cursor = page.cursor

    def summary(self, *, done: bool) -> None:
        """Say what has become of all of them."""
        if self._chosen.json:
            told = {"done": done, "cursor": self._cursor, "outcomes": dict(self._outcomes)}
            print(orjson.dumps(told).decode())
            return
        told_text = ", ".join(f"{number:,} {name}" for name, number in self._outcomes.most_common())
        print(told_text or "no hosts are listed there")
        if not done:
            begin = f" --cursor {self._cursor}" if self._cursor else ""
            print(f"to go on: standpipe pull-hosts --relay {self._relay}{begin}")

    async def _page(self, fetcher: Fetcher, cursor: str) -> Page:
        query = urlencode({"limit": PAGE, **({"cursor": cursor} if cursor else {})})
        found = await fetcher.get(
            f"{self._relay}/xrpc/com.atproto.sync.listHosts?{query}",
            trusted=True, max_bytes=PAGE_BYTES, limit_s=PAGE_S, hops=2,
        )  # fmt: skip
        if found.status != 200:
            raise FetchError(f"listHosts answers {found.status}")
        return parse_page(found.body)

    async def _work(self, fetcher: Fetcher, page: Page) -> None:
        """See to the hosts of one page, several at a time."""
        targets: dict[str, Target] = {}
        for host in page.hosts:
            judged = judge(host, allow_insecure=self._insecure)
            if isinstance(judged, str):
                self._tell(Outcome(host.hostname, "skipped", judged))
            else:
                targets[judged.hostname] = judged
        known = self._session.tables.known_hosts(list(targets))
        tasks: list[asyncio.Task[None]] = []
        try:
            for name, target in targets.items():
                if name in known:
                    self._tell(Outcome(name, "exists"))
                elif (domain := self._session.tables.ban_over(parents(name))) is not None:
                    self._tell(Outcome(name, "banned", domain))
                elif not self._enough():
                    await self._turn()
                    tasks.append(asyncio.create_task(self._one(fetcher, target)))
            await asyncio.gather(*tasks)
        finally:
            await _ended(tasks)

    async def _turn(self) -> None:
        """Wait until the next host may be asked: at the rate, and not too many at a time."""
        await self._free.acquire()
        if self._chosen.no_check:
            return
        loop = asyncio.get_running_loop()
        if self._begun_s is not None:
            await asyncio.sleep(max(0.0, self._begun_s + 1 / self._chosen.rate - loop.time()))
        self._begun_s = loop.time()

    async def _one(self, fetcher: Fetcher, target: Target) -> None:
        try:
            did = None
            if not self._chosen.no_check:
                try:
                    did = await server_did(fetcher, target)
                except FetchError as error:
                    self._tell(Outcome(target.hostname, "failed", str(error)))
                    return
                other = other_name(did, target.hostname)
                if other is not None and self._session.tables.known_hosts([other]):
                    self._tell(Outcome(target.hostname, "alias", other))
                    return
            if self._enough():
                return
            added = self._session.plane.add_host(self._new(target, did))
            self._tell(Outcome(target.hostname, "added" if added else "exists"))
        finally:
            self._free.release()

    def _new(self, target: Target, did: str | None) -> NewHost:
        settings = self._session.settings
        trusted = is_trusted(target.hostname, settings.trusted_domains)
        limit = settings.default_account_limit
        if self._chosen.accounts is not None:
            limit = self._chosen.accounts
        limit = TRUSTED_ACCOUNT_LIMIT if trusted else limit
        return NewHost(target.hostname, target.tls, limit, trusted, None, "relay", did)

    def _enough(self) -> bool:
        return self._chosen.limit is not None and self._outcomes["added"] >= self._chosen.limit

    def _tell(self, outcome: Outcome) -> None:
        self._outcomes[outcome.outcome] += 1
        told = orjson.dumps(outcome._asdict()).decode() if self._chosen.json else str(outcome)
        print(told, flush=True)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Leave none running behind a failure."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
