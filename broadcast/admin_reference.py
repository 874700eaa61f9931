"""Which paths of the admin API has the reference relay, and what do they do here?

Same paths, parameters and answers, so that its tools work unchanged. What it forgets at a restart is
kept, and what it refuses the second time is a success: each may be repeated.

Source: the reference relay's admin API; docs/admin.md.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from broadcast.admin_answers import SUCCESS, is_read, page, pds_answer
from broadcast.admin_desk import Desk
from broadcast.admin_door import Call, Path, Work
from broadcast.admin_words import COUNT_MAX, ID_MAX, bad
from broadcast.crawl_desk import CrawlDesk
from broadcast.xrpc import XrpcError
from common.control import UnknownHost
from common.syntax import is_datetime

HOSTS_MAX: Final = 10_000
"""Rows of pds/list. Source: the reference relay."""
TAKEDOWNS: Final = 500
"""DIDs of a page, when the request does not say."""
REQUEST_CRAWL: Final = "request_crawl"
NEW_HOSTS_PER_DAY: Final = "new_hosts_per_day"
"""Names in the table `control`."""
_ALERTS: Final = {"warning": "warning", "recovery": "ok"}


class Defaults(NamedTuple):
    """What counts while no operator has said otherwise. Source: common.settings."""

    request_crawl: bool = True
    new_hosts_per_day: int = 50
    allow_insecure_hosts: bool = False


class Reference:
    """The plans of these paths."""

    def __init__(self, defaults: Defaults, crawl: CrawlDesk) -> None:
        self._defaults = defaults
        self._crawl_desk = crawl

    def paths(self) -> list[Path]:
        """All of them."""
        return [
            Path("GET", "/admin/subs/getUpstreamConns", self._upstream),
            Path("POST", "/admin/subs/killUpstream", self._kill, told=True),
            Path("GET", "/admin/subs/getEnabled", self._enabled),
            Path("POST", "/admin/subs/setEnabled", self._set_enabled),
            Path("GET", "/admin/subs/perDayLimit", self._per_day),
            Path("POST", "/admin/subs/setPerDayLimit", self._set_per_day),
            Path("GET", "/admin/subs/listDomainBans", self._domains),
            Path("POST", "/admin/subs/banDomain", self._ban_domain, told=True),
            Path("POST", "/admin/subs/unbanDomain", self._unban_domain, told=True),
            Path("GET", "/admin/repo/takedowns", self._takedowns),
            Path("POST", "/admin/repo/takeDown", self._take_down, told=True),
            Path("POST", "/admin/repo/reverseTakedown", self._reverse, told=True),
            Path("GET", "/admin/pds/list", self._hosts),
            Path("POST", "/admin/pds/requestCrawl", self._crawl, told=True),
            Path("POST", "/admin/pds/changeLimits", self._limits, told=True),
            Path("POST", "/admin/pds/block", self._block, told=True),
            Path("POST", "/admin/pds/unblock", self._unblock, told=True),
            Path("POST", "/admin/alerts/accountLimitSent", self._alert),
        ]

    # --- subs ---

    def _upstream(self, _call: Call) -> Work:
        return lambda desk: [row.hostname for row in desk.store.hosts(0, HOSTS_MAX) if is_read(row)]

    def _kill(self, call: Call) -> Work:
        hostname = call.query.host("host").hostname
        block = (call.query.text("block") or "").lower() == "true"

        def work(desk: Desk) -> Any:
            row = desk.store.host(hostname)
            if block and row is not None:
                desk.control.ban_host(hostname)
            elif row is not None and is_read(row):
                desk.control.dial_host(hostname)
            else:
                raise bad("no active connection to given host")
            return SUCCESS

        return work

    def _enabled(self, _call: Call) -> Work:
        return lambda desk: {"enabled": self.takes_requests(desk.control.control())}

    def takes_requests(self, control: dict[str, str]) -> bool:
        """Whether strangers may add hosts."""
        said = control.get(REQUEST_CRAWL)
        return self._defaults.request_crawl if said is None else said == "true"

    def per_day(self, control: dict[str, str]) -> int:
        """How many hosts strangers may add in a day."""
        said = control.get(NEW_HOSTS_PER_DAY)
        return self._defaults.new_hosts_per_day if said is None else int(said)

    def _set_enabled(self, call: Call) -> Work:
        enabled = call.query.flag("enabled")
        if enabled is None:
            raise bad("enabled is missing")
        return _done(lambda desk: desk.control.set_control(REQUEST_CRAWL, str(enabled).lower()))

    def _per_day(self, _call: Call) -> Work:
        return lambda desk: {"limit": self.per_day(desk.control.control())}

    def _set_per_day(self, call: Call) -> Work:
        limit = call.query.number("limit", 0, COUNT_MAX)
        if limit is None:
            raise bad("limit is missing")
        return _done(lambda desk: desk.control.set_control(NEW_HOSTS_PER_DAY, str(limit)))

    def _domains(self, _call: Call) -> Work:
        return lambda desk: {"banned_domains": desk.control.banned_domains()}

    def _ban_domain(self, call: Call) -> Work:
        domain = call.body.domain()
        return _done(lambda desk: desk.control.ban_domain(domain))

    def _unban_domain(self, call: Call) -> Work:
        domain = call.body.domain()
        return _done(lambda desk: desk.control.unban_domain(domain))

    # --- repo ---

    def _takedowns(self, call: Call) -> Work:
        after = call.query.text("cursor") or ""
        limit = min(call.query.number("size", 1, COUNT_MAX) or TAKEDOWNS, TAKEDOWNS)

        def work(desk: Desk) -> Any:
            dids = desk.control.takedowns(after, limit + 1)
            return page("dids", dids, limit, dids)

        return work

    def _take_down(self, call: Call) -> Work:
        did = call.body.did()
        return _done(lambda desk: desk.control.take_down(did))

    def _reverse(self, call: Call) -> Work:
        did = call.body.did()
        return _done(lambda desk: desk.control.reverse_takedown(did))

    # --- pds ---

    def _hosts(self, _call: Call) -> Work:
        return lambda desk: [pds_answer(row) for row in desk.store.hosts(0, HOSTS_MAX)]

    async def _crawl(self, call: Call) -> Any:
        answer = await self._crawl_desk.request_for(call.body.required("hostname"), call.who)
        if answer.status != 200:
            raise XrpcError(answer.status, answer.body["error"], answer.body["message"])
        return answer.body

    def _limits(self, call: Call) -> Work:
        body = call.body
        hostname = body.host("host").hostname
        limits = body.limits()
        silenced = body.flag("account_limit_alerts_silenced")
        trusted = body.flag("trusted")
        if not any(what is not None for what in (*limits, silenced, trusted)):
            raise bad("missing repo_limit parameter, or another limit")

        def work(desk: Desk) -> Any:
            if desk.store.host(hostname) is None:
                raise UnknownHost(hostname)
            if trusted is not None:
                desk.control.set_trusted(hostname, trusted)
            desk.control.set_limits(hostname, limits)
            if silenced is not None:
                desk.control.silence_alerts(hostname, silenced)
            return SUCCESS

        return work

    def _block(self, call: Call) -> Work:
        hostname = call.query.host("host").hostname
        return _done(lambda desk: desk.control.ban_host(hostname))

    def _unblock(self, call: Call) -> Work:
        hostname = call.query.host("host").hostname
        return _done(lambda desk: desk.control.unban_host(hostname))

    # --- what a sibling relay tells ---

    def _alert(self, call: Call) -> Work:
        body = call.body
        state = _ALERTS.get(body.required("kind"))
        at = _time(body.required("sentAt"))
        hostname = body.host("hostname").hostname
        body.number("hostID", 0, ID_MAX)  # of that relay: it says nothing here
        if state is None:
            raise bad("kind has to be warning or recovery")

        def work(desk: Desk) -> Any:
            if desk.store.host(hostname) is None:
                raise UnknownHost(hostname)
            desk.store.set_alert(hostname, state, at)
            return SUCCESS

        return work


def _done(work: Work) -> Work:
    """A change, answered alike whether it was so before or not."""

    def success(desk: Desk) -> Any:
        work(desk)
        return SUCCESS

    return success


def _time(text: str) -> datetime:
    if not is_datetime(text):
        raise bad("sentAt is no time")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise bad("sentAt is no time") from None
