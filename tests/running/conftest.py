"""`fleet`: real processes in a data folder of the test's own. `typed`: a command, as it is typed.
`database`: one that the commands find, with two hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.running.fleet import Fleet, fleet_in
from tests.running.typed import Database, Typed, make_tables, typed_in


@pytest.fixture
def fleet(data_dir: Path) -> Iterator[Fleet]:
    with fleet_in(data_dir) as found:
        yield found


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str]) -> Typed:
    return typed_in(capfd)


@pytest.fixture
def database(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("STANDPIPE_DATABASE_URL", postgres_url)
    monkeypatch.setenv("STANDPIPE_OBSERVE_CLEAN_PERIOD", "36h")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        make_tables(connection)
        yield connection
