"""Which numbers does this stage report? All of them, listed once.

What became of each message, received to forwarded, is one balance: see common.conservation.
"""

from __future__ import annotations

from typing import Final

from common.conservation import serve
from common.telemetry import counter, gauge, high_water
from common.verdict import WAIVABLE
from ingest.checked import Checked, Result
from ingest.counts import Counts
from ingest.judge import STEPS, name_of
from ingest.limiter import WHYS
from ingest.slowing import Slowing

CHECKED: Final = counter(
    "standpipe_checked", "Steps of the judge that ran, and how each ended.", ["step", "result"]
)
DISCONTINUOUS: Final = counter(
    "standpipe_discontinuous", "Commits passed on that do not follow from the one before."
)
WAIVED: Final = counter(
    "standpipe_waived",
    "Commits passed on, of hosts at the level `observe`, that others would lose, by reason.",
    ["reason"],
)
STATUSES: Final = counter(
    "standpipe_status_questions",
    "Hosts asked whether an account is active, by outcome.",
    ["outcome"],
)
CLOCK_SUSPECT: Final = gauge(
    "standpipe_clock_suspect", "Whether most hosts write revs from the future: our clock is wrong."
)
SURPLUS: Final = counter(
    "standpipe_surplus_blocks", "Blocks of commits and syncs that came for nothing."
)
PROVEN: Final = counter(
    "standpipe_proven",
    "Commits whose inversion was spared, since the tree before them was remembered.",
)
SHARDS: Final = gauge("standpipe_shards", "Virtual shards that this process has a lease of.")
TAKEOVERS: Final = counter(
    "standpipe_shard_takeovers", "Shards taken over from another process whose lease had expired."
)
RELEASES: Final = counter(
    "standpipe_shard_releases", "Shards given up for balance, or lost to another process."
)
HOSTS: Final = gauge(
    "standpipe_hosts", "Hosts of this process by what is seen of them.", ["status"]
)
FOREIGN: Final = gauge(
    "standpipe_hosts_foreign",
    "Hosts of which most of the last events were of accounts of other hosts: relays, or second names.",
)
DIALS_WAITING: Final = gauge(
    "standpipe_dials_waiting", "Hosts that wait for their turn to be dialled."
)
DIALS_UNDER_WAY: Final = gauge("standpipe_dials_under_way", "Hosts that are being dialled.")
RESTARTS: Final = counter(
    "standpipe_host_restarts",
    "Hosts whose own numbers began anew, and that were read as another generation.",
)
LINKS: Final = counter(
    "standpipe_links", "Connections to persist on another machine that came to be."
)
REFUSED_LINKS: Final = counter(
    "standpipe_links_refused",
    "Connections to persist on another machine that did not: refused (it does not know our key), failed.",
    ["reason"],
)
PAUSED: Final = gauge(
    "standpipe_hosts_paused", "Hosts that are read no further until they hold less."
)
LIMITED: Final = gauge(
    "standpipe_hosts_limited", "Hosts that have sent all that they may for now, by why.", ["why"]
)
LIMITED_SECONDS: Final = counter(
    "standpipe_host_limited_seconds", "Time that hosts were not read for it, by why.", ["why"]
)
AHEAD: Final = gauge(
    "standpipe_hosts_ahead",
    "Hosts that are read no further, as too much is finished above their oldest event.",
)
SLOWED: Final = gauge(
    "standpipe_accounts_slowed",
    "Accounts whose commits wait so that the others of their host need not.",
)
SLOWED_BYTES: Final = high_water("ingest_slowed_bytes")
LOOKUPS_OPEN: Final = gauge(
    "standpipe_lookups_open", "DID documents that are asked for and not answered."
)
LOOKUPS_HELD: Final = gauge(
    "standpipe_lookups_held", "Of these, those that wait for the directory to come back."
)
ACCOUNTS: Final = gauge(
    "standpipe_accounts_remembered", "Accounts whose state and key are in memory, of ingest."
)
UNWRITTEN: Final = gauge(
    "standpipe_documents_unwritten", "DID documents that the database does not have yet."
)
LOOKUPS: Final = counter("standpipe_lookups", "DID documents asked for, by outcome.", ["outcome"])
KEPT: Final = counter(
    "standpipe_documents_kept",
    "Accounts met for the first time, by what the database had kept of their documents.",
    ["outcome"],
)
REJECTS: Final = counter(
    "standpipe_rejects",
    "Dropped messages by what the ledger did: kept, passed over for their share, lost in an outage.",
    ["fate"],
)
INBOX: Final = high_water("ingest_inbox_bytes")
UNFINISHED: Final = high_water("ingest_unfinished_bytes")
IN_FLIGHT_BYTES: Final = high_water("ingest_in_flight_bytes")
REJECTS_WAITING: Final = high_water("ingest_rejects_waiting_bytes")

limited: Final = {why: LIMITED.labels(why) for why in WHYS}
limited_seconds: Final = {why: LIMITED_SECONDS.labels(why) for why in WHYS}
rejects: Final = {fate: REJECTS.labels(fate) for fate in ("kept", "passed_over", "lost")}
waived: Final = {reason: WAIVED.labels(reason.value) for reason in WAIVABLE}
statuses: Final = {
    outcome: STATUSES.labels(outcome) for outcome in ("active", "inactive", "unavailable", "again")
}
kept: Final = {outcome: KEPT.labels(outcome) for outcome in ("found", "missing", "passed_by")}
lookups: Final = {
    outcome: LOOKUPS.labels(outcome)
    for outcome in ("found", "not_found", "broken", "unavailable", "busy")
}
checked: Final = {
    (step, result): CHECKED.labels(step, result.name.lower())
    for step in sorted({name_of(step) for steps in STEPS.values() for step in steps})
    for result in Result
}


def add_checked(counted: Checked) -> None:
    """Take the steps that have run since the last time."""
    for kind, steps in STEPS.items():
        for step, results in zip(steps, counted.take(kind, len(steps)), strict=True):
            for result, count in results.items():
                if count:
                    checked[name_of(step), result].inc(count)
    SURPLUS.inc(counted.surplus)
    PROVEN.inc(counted.proven)
    counted.surplus = counted.proven = 0


def add_slowed(slowing: Slowing) -> None:
    """Take who waits for a time, and how long hosts have, since the last time."""
    counts = slowing.counts()
    for why in WHYS:
        limited[why].set(counts[why])
        limited_seconds[why].inc(slowing.waited_s.pop(why, 0.0))


def add_counts(counts: Counts) -> None:
    """Take what is no part of the balance, since the last time."""
    for reason, count in counts.waived.items():
        waived[reason].inc(count)
    counts.waived.clear()
    DISCONTINUOUS.inc(counts.discontinuous)
    counts.discontinuous = 0
    add_checked(counts.checked)


serve(Counts().balance(inbox=0, held=0, in_flight=0))
