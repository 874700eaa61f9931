"""A command as it is typed, in this process: its exit code, what it printed, what it complained of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import psycopg
import pytest

from common.command.__main__ import main
from tests.relay import ROOT

Typed = Callable[..., tuple[int, str, str]]
Database = psycopg.Connection[tuple[object, ...]]
DIDS: Final = [f"did:plc:{letter * 24}" for letter in "ab"]


def typed_in(capfd: pytest.CaptureFixture[str]) -> Typed:
    """Run a command → exit code, what it printed, what it complained of."""

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(str(ended.code))
        out, err = capfd.readouterr()
        return code, out, err

    return run


def make_tables(connection: Database) -> None:
    """The schema, and two hosts: one.example and localhost:2583."""
    connection.execute((ROOT / "common" / "schema.sql").read_bytes())
    for name in ("one.example", "localhost:2583"):
        connection.execute("INSERT INTO host (hostname, account_limit) VALUES (%s, 100)", (name,))
