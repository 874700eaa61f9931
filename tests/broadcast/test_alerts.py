"""broadcast.alerts: a host that nears its account limit is told of once, by one broadcaster of several."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from broadcast.admin_desk import Desks
from broadcast.admin_words import AdminError
from broadcast.alerts import TOLD, Alerts, Rule
from broadcast.siblings import Siblings
from tests.broadcast.fakes import NO_DATABASE
from tests.broadcast.operator import fill
from tests.broadcast.recorder import recorder

HOURLY = Rule(share=0.8, repeat_s=3600.0)


@pytest.fixture
def database(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    fill(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def set_one(database: psycopg.Connection[Any], accounts: int) -> None:
    """Of the host one.example, whose limit is 100."""
    database.execute("UPDATE host SET accounts = %s WHERE id = 1", (accounts,))


def told(kind: str) -> float:
    name, labels = "standpipe_account_limit_alerts_total", {"kind": kind}
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_host_is_told_of_when_it_nears_its_limit_and_when_it_leaves_it(
    database: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        desks = Desks(database.info.dsn)
        alerts = Alerts(HOURLY, desks, Siblings(()), ("secret",))
        before = told("warning"), told("recovery")
        set_one(database, 79)
        assert await alerts.look() == []
        set_one(database, 80)
        (warning,) = await alerts.look()
        assert (warning.kind, warning.hostname, warning.accounts, warning.account_limit) == (
            "warning", "one.example", 80, 100,
        )  # fmt: skip
        assert await alerts.look() == []
        set_one(database, 79)
        (recovery,) = await alerts.look()
        assert (recovery.kind, recovery.usage) == ("recovery", 0.79)
        assert await alerts.look() == []
        assert (told("warning"), told("recovery")) == (before[0] + 1, before[1] + 1)
        desks.close()

    with caplog.at_level(logging.INFO, "standpipe"):
        asyncio.run(story())
    lines = [(r.levelname, r.message, r.fields["host"]) for r in caplog.records]  # type: ignore[attr-defined]
    assert lines == [
        ("WARNING", "a host is near its account limit", "one.example"),
        ("INFO", "a host is no longer near its account limit", "one.example"),
    ]


def test_it_is_told_again_after_a_while_and_not_before(database: psycopg.Connection[Any]) -> None:
    async def story() -> None:
        desks = Desks(database.info.dsn)
        alerts = Alerts(HOURLY, desks, Siblings(()), ())
        set_one(database, 100)
        assert len(await alerts.look()) == 1
        database.execute("UPDATE host SET alert_at = now() - interval '59 minutes' WHERE id = 1")
        assert await alerts.look() == []
        database.execute("UPDATE host SET alert_at = now() - interval '61 minutes' WHERE id = 1")
        assert len(await alerts.look()) == 1
        desks.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "change",
    ["alerts_silenced = true", "wanted = 'banned'", "wanted = 'deleted'",
     "accounts = 0, account_limit = 0"],
)  # fmt: skip
def test_who_is_silenced_banned_deleted_or_empty_is_not_told_of(
    database: psycopg.Connection[Any], change: str
) -> None:
    async def story() -> None:
        desks = Desks(database.info.dsn)
        set_one(database, 100)
        database.execute(f"UPDATE host SET {change} WHERE id = 1".encode())
        assert await Alerts(HOURLY, desks, Siblings(()), ()).look() == []
        desks.close()

    asyncio.run(story())


def test_of_many_that_look_at_once_one_tells(database: psycopg.Connection[Any]) -> None:
    async def story() -> None:
        desks = [Desks(database.info.dsn) for _ in range(4)]
        for _ in range(10):
            set_one(database, 100)
            looks = [Alerts(HOURLY, desk, Siblings(()), ()).look() for desk in desks * 3]
            assert sum(map(len, await asyncio.gather(*looks))) == 1
            set_one(database, 1)
            looks = [Alerts(HOURLY, desk, Siblings(()), ()).look() for desk in desks * 3]
            assert sum(map(len, await asyncio.gather(*looks))) == 1
        for desk in desks:
            desk.close()

    asyncio.run(story())


def test_siblings_are_told_with_our_own_password(
    database: psycopg.Connection[Any], tmp_path: Path
) -> None:
    async def story() -> None:
        async with recorder() as sibling:
            desks, siblings = Desks(database.info.dsn), Siblings((sibling.url,))
            set_one(database, 90)
            await Alerts(HOURLY, desks, siblings, ("first", "second")).look()
            request = await sibling.next()
            assert (request.method, request.target) == ("POST", TOLD)
            scheme, credentials = request.headers["authorization"].split()
            assert (scheme, b64decode(credentials)) == ("Basic", b"admin:first")
            assert "atproto-relay" in request.headers["via"]
            value = request.value
            assert value.pop("sentAt").endswith("Z")
            assert value == {
                "kind": "warning", "hostID": 1, "hostname": "one.example", "accountCount": 90,
                "accountLimit": 100, "usage": 0.9,
            }  # fmt: skip
            await siblings.close()
            desks.close()

    asyncio.run(story())


def test_without_the_database_it_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        desks = Desks(NO_DATABASE)
        with pytest.raises(AdminError):
            await Alerts(HOURLY, desks, Siblings(()), ()).look()
        tried = 0
        work = desks.do

        async def counted(*given: Any) -> Any:
            nonlocal tried
            tried += 1
            return await work(*given)

        monkeypatch.setattr(desks, "do", counted)
        looking = asyncio.create_task(Alerts(Rule(interval_s=0.001), desks, Siblings(()), ()).run())
        async with asyncio.timeout(30):
            while tried < 3:
                await asyncio.sleep(0.005)
        assert not looking.done()
        looking.cancel()
        desks.close()

    asyncio.run(story())
