"""What does each small HTTP method answer? Rows and parameters in, JSON values out.

    parameters ─▶ value | XrpcError          rows ─▶ the lexicon's output

Names of errors are the lexicons'; their HTTP statuses are the reference relay's: 404 for what is
not known, 403 for what is not to be had, 400 for what makes no sense.

This module does not know HTTP servers or the database.

Source: com.atproto.sync.listHosts, getHostStatus, listRepos, getRepoStatus, getLatestCommit,
getRepo; the xrpc spec. (requestCrawl: broadcast.crawl.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from common.cid import cid_text
from common.syntax import Did, parse_did, parse_tid

HOSTS_LIMIT: Final = 200
REPOS_LIMIT: Final = 500
LIMIT_MAX: Final = 1000
"""Defaults and bound of `limit`. Source: the lexicons."""
_ID_MAX: Final = 2**63 - 1
_HOST_CHARS_MAX: Final = 253
_is_hostname: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?::[0-9]{1,5})?"
).fullmatch

_INACTIVE: Final[dict[str | None, tuple[int, str]]] = {
    "takendown": (403, "RepoTakendown"),
    "suspended": (403, "RepoSuspended"),
    "deactivated": (403, "RepoDeactivated"),
    "deleted": (404, "RepoNotFound"),
}
"""Status and error of an account that is not active (S-ACC-04, S-ACC-12). The lexicons have no name
for `deleted`."""


_STOP_NOTHING: Final = frozenset({"throttled", "desynchronized"})
"""Statuses that an active account may have. Source: S-ACC-04."""


class XrpcError(Exception):
    """An answer in XRPC's error form."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message

    def body(self) -> bytes:
        """The JSON body."""
        return orjson.dumps({"error": self.error, "message": self.message})


class HostRow(NamedTuple):
    """One host. number: its place in the listing. seq: up to which it was processed, or None.

    alias_of: the host that it is another name of.
    """

    number: int
    hostname: str
    seq: int | None
    status: str
    accounts: int
    alias_of: str | None = None


@dataclass(slots=True)
class AccountRow:
    """One account. number: its place in the listing. host: None when no host has claimed it.

    desynchronized, local: see common.envelope.AccountState.
    """

    number: int
    did: str
    active: bool
    status: str | None
    rev: str | None
    commit: bytes | None
    host: str | None = None
    tls: bool = True
    desynchronized: bool = False
    local: str | None = None

    def __post_init__(self) -> None:
        """What this relay says goes before what the host says, as in the stream. Source: S-ACC-07."""
        if self.local is not None:
            self.active, self.status = False, self.local


# --- parameters ---


class Query:
    """The parameters of one request, each to be asked for by its rule."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = pairs

    def text(self, name: str) -> str | None:
        """A parameter that may be given once; an empty one is as good as none."""
        given = [value for key, value in self._pairs if key == name]
        if len(given) > 1:
            raise invalid(f"{name} was given more than once")
        return given[0] if given and given[0] else None

    def required(self, name: str) -> str:
        """A parameter that has to be there."""
        text = self.text(name)
        if text is None:
            raise invalid(f"{name} is missing")
        return text

    def limit(self, default: int) -> int:
        """How many rows at most."""
        return self._number("limit", default, 1, LIMIT_MAX)

    def cursor(self) -> int:
        """Behind which row to go on; 0 is the beginning."""
        return self._number("cursor", 0, 0, _ID_MAX)

    def did(self) -> Did:
        """The account asked about."""
        did = parse_did(self.required("did"))
        if did is None:
            raise invalid("did is not a DID")
        return did

    def hostname(self) -> str:
        """The host asked about, in lower case."""
        return parse_hostname(self.required("hostname"))

    def since(self) -> None:
        """Check the optional rev of getRepo; the account's PDS is who uses it."""
        text = self.text("since")
        if text is not None and parse_tid(text) is None:
            raise invalid("since is not a TID")

    def _number(self, name: str, default: int, low: int, high: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise invalid(f"{name} must be a whole number from {low} to {high}")
        return int(text)


def invalid(message: str) -> XrpcError:
    """The request makes no sense."""
    return XrpcError(400, "InvalidRequest", message)


def parse_hostname(text: str) -> str:
    """A host name, with a port where there is one, in lower case.

    Raises:
        XrpcError: it is none.
    """
    name = text.lower()
    if len(name) > _HOST_CHARS_MAX or not _is_hostname(name):
        raise invalid("hostname is not a host name")
    return name


# --- answers ---


def hosts_answer(rows: Sequence[HostRow], limit: int) -> dict[str, Any]:
    """A page of listHosts. `rows` may hold one more than `limit`, which tells that more follow."""
    page: dict[str, Any] = {"hosts": [host_answer(row) for row in rows[:limit]]}
    if len(rows) > limit:
        page["cursor"] = str(rows[limit - 1].number)
    return page


def host_answer(row: HostRow) -> dict[str, Any]:
    """One host, as listHosts and getHostStatus show it; `aliasOf` is ours."""
    answer: dict[str, Any] = {"hostname": row.hostname}
    if row.seq is not None:
        answer["seq"] = row.seq
    answer["accountCount"] = row.accounts
    answer["status"] = row.status
    if row.alias_of is not None:
        answer["aliasOf"] = row.alias_of
    return answer


def repos_answer(rows: Sequence[AccountRow], limit: int) -> dict[str, Any]:
    """A page of listRepos; each row has a rev and a commit. As `hosts_answer` otherwise."""
    repos: list[dict[str, Any]] = []
    for row in rows[:limit]:
        repo: dict[str, Any] = {
            "did": row.did,
            "head": cid_text(row.commit or b""),
            "rev": row.rev,
            "active": row.active,
        }
        if (status := _status(row)) is not None:
            repo["status"] = status
        repos.append(repo)
    page: dict[str, Any] = {"repos": repos}
    if len(rows) > limit:
        page["cursor"] = str(rows[limit - 1].number)
    return page


def repo_status_answer(row: AccountRow | None, did: str) -> dict[str, Any]:
    """getRepoStatus; the rev only where the account is active. Source: S-ACC-06, S-ACC-08, S-ACC-20."""
    row = _known(row, did)
    answer: dict[str, Any] = {"did": row.did, "active": row.active}
    if (status := _status(row)) is not None:
        answer["status"] = status
    if row.active and row.rev is not None:
        answer["rev"] = row.rev
    return answer


def _status(row: AccountRow) -> str | None:
    """Why an account is not active; or what is to be known of one that is.

    Its host's word goes first. The lexicons tie `status` to an account that is not active, but for
    the two that stop nothing (spec 3-16).
    Source: S-ACC-04, S-ACC-06, S-DSY-05.
    """
    if not row.active or row.status in _STOP_NOTHING:
        return row.status
    return "desynchronized" if row.desynchronized else None


def latest_commit_answer(row: AccountRow | None, did: str) -> dict[str, str]:
    """getLatestCommit."""
    row = _active(row, did)
    if row.rev is None or row.commit is None:
        raise XrpcError(404, "RepoNotFound", f"no commit of {did} has been seen yet")
    return {"cid": cid_text(row.commit), "rev": row.rev}


def repo_location(row: AccountRow | None, did: str, path: str, query_string: str) -> str:
    """Where getRepo sends its caller (S-DSY-07): the account's host, with the same path and query."""
    row = _active(row, did)
    if row.host is None:
        raise XrpcError(404, "RepoNotFound", f"no host of {did} is known")
    scheme = "https" if row.tls else "http"
    return f"{scheme}://{row.host}{path}?{query_string}"


def _known(row: AccountRow | None, did: str) -> AccountRow:
    if row is None:
        raise XrpcError(404, "RepoNotFound", f"{did} is not known here")
    return row


def _active(row: AccountRow | None, did: str) -> AccountRow:
    row = _known(row, did)
    if not row.active:
        status, error = _INACTIVE.get(row.status, (403, "RepoInactive"))
        raise XrpcError(status, error, f"{did} is {row.status or 'not active'}")
    return row
