"""What can the judge answer, and about whom is it asked?

    Accept             it goes on, and this is the state it leads to
    Drop               it goes no further (common.verdict)
    NeedFreshIdentity  look the identity up again, and judge once more
    NeedStatus         ask the account's host how the account is, and judge once more

Values only; the judge makes them, ingest.pipeline acts on them.
"""

from __future__ import annotations

from typing import NamedTuple

from common.envelope import AccountState
from common.verdict import Drop, DropReason, Level
from ingest.did_document import Broken, Identity, NotFound


class Accept(NamedTuple):
    """The event goes on.

    after: the state of its account once it has. marks: of common.envelope.Mark. waived: what a
    host at the level `enforce` would have lost it for.
    """

    after: AccountState
    marks: int = 0
    waived: DropReason | None = None


class NeedFreshIdentity(NamedTuple):
    """Not with this document; look the identity up again, and judge once more.

    otherwise: the reason to drop the event if the newest document says the same.
    """

    otherwise: DropReason
    detail: str


class NeedStatus(NamedTuple):
    """The account is thought inactive, and its own host speaks for it: ask that host, once.

    If it says the same, the event is dropped as ACCOUNT_INACTIVE. Source: S-ACC-18.
    """

    detail: str


Verdict = Accept | Drop | NeedFreshIdentity | NeedStatus
Known = Identity | Broken | NotFound
"""What can be known of an identity; one that cannot be told now is not judged at all."""


class Source(NamedTuple):
    """Whom the event came from.

    host: its number. hostname: normal form, with a port if any. level: how strictly it is judged.
    """

    host: int
    hostname: str
    level: Level = Level.ENFORCE
