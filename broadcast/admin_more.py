"""What can an operator do here that the reference relay has no path for?

A host's cursor, trust, level and end; the accounts of a host; search; what is set; who changed what;
a consumer let go. A change answers `{"success": "true", "changed": …}`: false where it was so before.

Source: docs/admin.md.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from broadcast.admin_answers import account_answer, audit_answer, host_answer, page
from broadcast.admin_desk import Desk
from broadcast.admin_door import Call, Path, Work
from broadcast.admin_reference import NEW_HOSTS_PER_DAY, REQUEST_CRAWL, Reference
from broadcast.admin_words import ID_MAX, Params, bad
from broadcast.consumers import DISCONNECT, HERE, LIST, Consumers
from common.control import UnknownHost

ROWS: Final = 100
ROWS_MAX: Final = 1000
"""Rows of a page, when the request does not say, and at most."""


class More:
    """The plans of these paths."""

    def __init__(self, reference: Reference, consumers: Consumers) -> None:
        self._reference = reference
        self._consumers = consumers

    def paths(self) -> list[Path]:
        """All of them."""
        return [
            Path("GET", "/admin/hosts/list", self._hosts),
            Path("GET", "/admin/hosts/show", self._host),
            Path("GET", "/admin/hosts/accounts", self._accounts_of),
            Path("POST", "/admin/hosts/cursor", self._cursor),
            Path("POST", "/admin/hosts/trust", self._trust),
            Path("POST", "/admin/hosts/level", self._level),
            Path("POST", "/admin/hosts/dial", self._dial),
            Path("POST", "/admin/hosts/delete", self._delete),
            Path("GET", "/admin/accounts/search", self._accounts),
            Path("GET", "/admin/audit", self._audit),
            Path("GET", "/admin/control", self._control),
            Path("GET", LIST, self._consumer_list),
            Path("POST", DISCONNECT, self._disconnect),
        ]

    # --- hosts ---

    def _hosts(self, call: Call) -> Work:
        part = (call.query.text("q") or "").lower()
        after, limit = _page(call.query)

        def work(desk: Desk) -> Any:
            rows = desk.store.hosts(after, limit + 1, part)
            return page("hosts", [host_answer(row) for row in rows], limit, [r.id for r in rows])

        return work

    def _host(self, call: Call) -> Work:
        hostname = call.query.host("host").hostname

        def work(desk: Desk) -> Any:
            row = desk.store.host(hostname)
            if row is None:
                raise UnknownHost(hostname)
            return host_answer(row)

        return work

    def _accounts_of(self, call: Call) -> Work:
        hostname = call.query.host("host").hostname
        after, limit = _page(call.query)

        def work(desk: Desk) -> Any:
            host = desk.store.host(hostname)
            if host is None:
                raise UnknownHost(hostname)
            rows = desk.store.accounts_of(host.id, after, limit + 1)
            values = [account_answer(row) for row in rows]
            return page("accounts", values, limit, [row.id for row in rows])

        return work

    def _cursor(self, call: Call) -> Work:
        hostname, cursor = call.body.host("host").hostname, call.body.cursor()
        return _changed(lambda desk: desk.control.set_cursor(hostname, cursor))

    def _trust(self, call: Call) -> Work:
        hostname, trusted = call.body.host("host").hostname, call.body.flag("trusted")
        if trusted is None:
            raise bad("trusted is missing")
        return _changed(lambda desk: desk.control.set_trusted(hostname, trusted))

    def _level(self, call: Call) -> Work:
        hostname, level = call.body.host("host").hostname, call.body.level()
        return _changed(lambda desk: desk.control.set_level(hostname, level))

    def _dial(self, call: Call) -> Work:
        hostname = call.body.host("host").hostname
        return _changed(lambda desk: desk.control.dial_host(hostname))

    def _delete(self, call: Call) -> Work:
        hostname = call.body.host("host").hostname

        def work(desk: Desk) -> Any:
            try:
                return desk.control.delete_host(hostname)
            except UnknownHost:
                return False  # it is gone already, or never was

        return _changed(work)

    # --- accounts ---

    def _accounts(self, call: Call) -> Work:
        beginning = call.query.required("q")
        if not beginning.startswith("did:"):
            raise bad("q has to be a DID, or the beginning of some")
        after, limit = _page(call.query)

        def work(desk: Desk) -> Any:
            rows = desk.store.accounts(beginning, after, limit + 1)
            values = [account_answer(row) for row in rows]
            return page("accounts", values, limit, [row.id for row in rows])

        return work

    # --- the relay ---

    def _audit(self, call: Call) -> Work:
        subject = call.query.text("subject")
        limit = call.query.page(ROWS, ROWS_MAX)
        before = call.query.number("cursor", 1, ID_MAX) or ID_MAX

        def work(desk: Desk) -> Any:
            rows = desk.control.audit(before, limit + 1, subject)
            return page("changes", [audit_answer(row) for row in rows], limit, [r.id for r in rows])

        return work

    def _control(self, _call: Call) -> Work:
        def work(desk: Desk) -> Any:
            said = desk.control.control()
            return {
                REQUEST_CRAWL: self._reference.takes_requests(said),
                NEW_HOSTS_PER_DAY: self._reference.per_day(said),
                "said": sorted(said),
            }

        return work

    # --- consumers ---

    def _consumer_list(self, call: Call) -> Awaitable[Any]:
        if call.query.flag(HERE):
            return _ready(self._consumers.here())
        return self._consumers.everywhere(call.authorization)

    def _disconnect(self, call: Call) -> Awaitable[Any]:
        number = call.query.number("id", 0, ID_MAX)
        if number is None:
            raise bad("id is missing")
        return self._let_go(call, number, here=call.query.flag(HERE) is True)

    async def _let_go(self, call: Call, number: int, *, here: bool) -> Any:
        changed = await self._consumers.disconnect(number, call.authorization, here=here)
        return {"success": "true", "changed": changed}


def _page(query: Params) -> tuple[int, int]:
    """Behind which row, and how many."""
    return query.number("cursor", 0, ID_MAX) or 0, query.page(ROWS, ROWS_MAX)


def _changed(work: Work) -> Work:
    return lambda desk: {"success": "true", "changed": work(desk)}


async def _ready(value: Any) -> Any:
    return value
