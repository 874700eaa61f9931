"""Who writes into which table of PostgreSQL? Persist and the host manager; of the rest, each has one owner.

Two writers of one row, each with a picture of his own, are how a ban is undone and a cursor goes back.
Source: lesson 35; the comments in common/schema.sql.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from tests.relay import ROOT

WRITERS: Final = {
    "relay": {
        "persist/store.py", "common/database.py", "common/control.py", "broadcast/crawl_table.py",
        "ingest/host_table.py",
    },
    "account": {"persist/store.py"},
    "host": {
        "persist/store.py", "ingest/host_table.py", "common/control.py", "broadcast/crawl_table.py",
        "broadcast/admin_store.py", "common/database.py",
    },
    "shard": {"ingest/lease_table.py", "persist/store.py"},
    "member": {"ingest/lease_table.py"},
    "reject": {"ingest/reject_table.py"},
    "host_drop": {"ingest/reject_table.py"},
    "identity": {"ingest/store.py", "persist/store.py"},
    "takedown": {"common/control.py", "persist/store.py"},
    "domain_ban": {"common/control.py", "persist/store.py"},
    "control": {"common/control.py"},
    "audit": {"common/control.py", "ingest/host_table.py"},
}  # fmt: skip
"""Table → modules with statements that write into it. `host`: what is observed is persist's, new rows and
levels are the host manager's, the will is the operator's (common.control); what a host asks for itself, to
be dialled and to be no alias any more, is requestCrawl's; what was told of its account limit is
broadcast.alerts'. `takedown`, `domain_ban`: persist keeps them over an old backup. `relay`, `audit`: the host
manager notes there what the relay does by itself. `shard`: persist writes at its start
which epochs the log has, see persist/store.py. `identity`: persist empties it over an old backup."""

WRITING: Final = re.compile(
    r"(?:INSERT\s+INTO|DELETE\s+FROM|TRUNCATE|COPY|MERGE\s+INTO|UPDATE)\s+([a-z_]+)\b(?!\s*=)"
)
STAGES: Final = ("ingest", "persist", "broadcast", "common")


def test_each_table_is_written_by_its_owners_alone() -> None:
    found = defaultdict(set)
    for stage in STAGES:
        for path in (ROOT / stage).rglob("*.py"):
            for table in WRITING.findall(path.read_text()):
                if table in WRITERS:
                    found[table].add(str(path.relative_to(ROOT)))
    assert found == WRITERS


def test_the_tables_are_those_of_the_schema() -> None:
    schema = (ROOT / "common" / "schema.sql").read_text()
    assert set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", schema)) == set(WRITERS)
