"""Whatever a client sends to the admin API costs its sender only: each input of the lessons, and its limit."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from prometheus_client import REGISTRY

from broadcast import admin_desk
from broadcast.admin_api import Setup
from broadcast.admin_desk import DESKS, QUEUE
from broadcast.admin_gate import OF_ADDRESS
from broadcast.config import HttpLimits
from tests.broadcast.fakes import NO_DATABASE, FakeLog, Member, member_of, seqs, until
from tests.broadcast.operator import BASIC, DIDS, PASSWORD, Operator, fill, operated
from tests.broadcast.raw import Raw, Response
from tests.fix_loop import LoopRun

LIST = "/admin/consumers/list"
WRONG = "Basic " + b64encode(b"admin:guess").decode()
ADMIN = Setup(passwords=(PASSWORD,))


@pytest.fixture
def filled_url(postgres_url: str) -> str:
    fill(postgres_url)
    return postgres_url


def counted(result: str) -> float:
    name = "standpipe_admin_requests_total"
    return REGISTRY.get_sample_value(name, {"result": result}) or 0.0


def wrong_passwords() -> float:
    return REGISTRY.get_sample_value("standpipe_admin_wrong_passwords_total") or 0.0


@asynccontextmanager
async def connected(member: Member, address: str = "127.0.0.1") -> AsyncIterator[Raw]:
    """A connection from an address of the loopback."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", member.port, local_addr=(address, 0)
    )
    raw = Raw(reader, writer)
    try:
        yield raw
    finally:
        raw.cut()


async def tried(raw: Raw, authorization: str, *more: str, path: str = LIST) -> Response:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: relay",
        f"Authorization: {authorization}",
        *more,
        "",
        "",
    ]
    await raw.send("\r\n".join(lines).encode())
    return await raw.response()


# --- brute force ---


def test_ten_thousand_wrong_passwords_are_ten_looks_and_keep_nobody_else_out(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, admin=ADMIN) as member:
            before = wrong_passwords(), counted("limited"), counted("unauthorized")
            async with connected(member, "127.0.0.2") as raw:
                request = (
                    f"GET {LIST} HTTP/1.1\r\nHost: relay\r\nAuthorization: {WRONG}\r\n\r\n".encode()
                )
                statuses: dict[int, int] = {}
                for _ in range(100):
                    await raw.send(request * 100)
                    for _ in range(100):
                        response = await raw.response()
                        statuses[response.status] = statuses.get(response.status, 0) + 1
                looks = wrong_passwords() - before[0]
                assert OF_ADDRESS.burst <= looks <= OF_ADDRESS.burst + 5  # it may take a minute
                assert statuses == {401: looks, 429: 10_000 - looks}
                assert counted("limited") - before[1] == statuses[429]
                assert counted("unauthorized") - before[2] == looks
                # Now even the right one is not looked at, from there. It says when it will be.
                response = await tried(raw, BASIC)
                assert response.status == 429
                assert 0 < int(response.headers["retry-after"]) <= OF_ADDRESS.every_s
                assert "too many" in json.loads(response.body)["error"]
            async with connected(member, "127.0.0.3") as raw:
                assert (await tried(raw, BASIC)).status == 200

    asyncio.run(story())


def test_no_password_at_all_is_a_wrong_one(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, admin=ADMIN) as member:
            operator = Operator(member, None)
            for _ in range(OF_ADDRESS.burst):
                response = await operator.ask("GET", LIST)
                assert response.status == 401
                assert response.headers["www-authenticate"].startswith("Basic ")
                assert json.loads(response.body) == {"error": "Unauthorized"}
            assert (await operator.refused("GET", LIST))[0] == 429
            assert (await operator.refused("GET", "/admin/rejects?host=x.y"))[0] == 429

    loop_run(story())


def test_each_of_several_passwords_lets_in_as_basic_and_as_bearer(tmp_path: Path) -> None:
    async def story() -> None:
        admin = Setup(passwords=("new", "old"))
        async with member_of(FakeLog(), tmp_path, admin=admin) as member, connected(member) as raw:
            for password in ("new", "old"):
                basic = b64encode(f"admin:{password}".encode()).decode()
                assert (await tried(raw, f"Basic {basic}")).status == 200
                assert (await tried(raw, f"Bearer {password}")).status == 200
            assert (await tried(raw, "Bearer older")).status == 401

    asyncio.run(story())


def test_a_broadcaster_reaches_another_whose_loopback_is_being_tried(tmp_path: Path) -> None:
    """A proxy of this machine that is not trusted makes all the world one address."""

    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, admin=ADMIN) as member:
            attacker, operator = Operator(member, WRONG), Operator(member)
            for _ in range(OF_ADDRESS.burst + 1):
                await attacker.refused("GET", LIST)
            assert (await operator.refused("GET", LIST))[0] == 429
            response = await operator.ask("GET", LIST, port=member.private_port)
            assert response.status == 200

    asyncio.run(story())


# --- forged headers ---


def test_a_forged_forwarding_header_makes_nobody_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, admin=ADMIN) as member, connected(member) as raw:
            for number in range(OF_ADDRESS.burst):
                forged = f"X-Forwarded-For: 198.51.100.{number}"
                assert (await tried(raw, WRONG, forged, "X-Real-IP: 1.2.3.4")).status == 401
            forged = "X-Forwarded-For: 203.0.113.7"
            assert (await tried(raw, WRONG, forged, "Forwarded: for=1.2.3.4")).status == 429

    asyncio.run(story())


def test_behind_a_trusted_proxy_each_client_counts_for_itself(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            member_of(FakeLog(), tmp_path, admin=ADMIN, trusted_proxies=("127.0.0.0/8",)) as member,
            connected(member) as raw,
        ):
            for number in range(OF_ADDRESS.burst):
                # The last one is whom the proxy saw; what stands before it, he wrote himself.
                seen = f"X-Forwarded-For: 192.0.2.{number}, 198.51.100.1"
                assert (await tried(raw, WRONG, seen)).status == 401
            assert (await tried(raw, BASIC, "X-Forwarded-For: 198.51.100.1")).status == 429
            assert (await tried(raw, BASIC, "X-Forwarded-For: 198.51.100.2")).status == 200

    asyncio.run(story())


def test_the_audit_log_has_the_address_that_a_trusted_proxy_saw(
    tmp_path: Path, filled_url: str
) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url, trusted_proxies=("127.0.0.1",)) as operator:
            seen = ("X-Forwarded-For: 10.0.0.1, 198.51.100.1",)
            await operator.post("/admin/pds/block?host=one.example", headers=seen)
            (change,) = (await operator.get("/admin/audit"))["changes"]
            assert change["who"] == "admin@198.51.100.1"

    asyncio.run(story())


# --- bodies ---


BAN = "/admin/subs/banDomain"


def test_an_endless_body_ends_at_its_bound(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        limits = HttpLimits(body_bytes=4096)
        async with member_of(FakeLog(), tmp_path, admin=ADMIN, http_limits=limits) as member:
            for length in ("Transfer-Encoding: chunked", "Content-Length: 1000000000000"):
                async with connected(member) as raw:
                    head = (
                        f"POST {BAN} HTTP/1.1\r\nHost: relay\r\nAuthorization: {BASIC}\r\n"
                        f"Content-Type: application/json\r\n{length}\r\n\r\n"
                    )
                    await raw.send(head.encode())
                    piece = b"1000\r\n" + b"x" * 4096 + b"\r\n"
                    await raw.send(piece * 2)
                    response = await raw.response()
                    assert response.status == 413
                    assert response.headers["connection"] == "close"
                    assert isinstance(json.loads(response.body)["error"], str)
                    await raw.ended()

    loop_run(story())


def test_a_body_of_somebody_who_is_not_let_in_is_not_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, admin=ADMIN) as member:
            async with connected(member) as raw:
                await raw.send(
                    f"POST {BAN} HTTP/1.1\r\nHost: relay\r\nContent-Length: 60000\r\n\r\n".encode()
                )
                assert (await raw.response()).status == 401  # before a byte of it came

    asyncio.run(story())


def test_a_slow_body_and_a_slow_head_run_out_of_time(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        limits = HttpLimits(head_s=0.2, body_s=0.2)
        async with member_of(FakeLog(), tmp_path, admin=ADMIN, http_limits=limits) as member:
            head = (
                f"POST {BAN} HTTP/1.1\r\nHost: relay\r\nAuthorization: {BASIC}\r\n"
                "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            )
            for sent in (head[:50], head + "{"):
                async with connected(member) as raw:
                    await raw.send(sent.encode())
                    assert (await raw.response()).status == 408

    loop_run(story())


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        pytest.param(b'{"domain":"x.example"}', "text/plain", 415, id="a form's kind"),
        pytest.param(b"domain=x.example", "application/x-www-form-urlencoded", 415, id="a form"),
        pytest.param(b'{"domain":"x.example"}', "", 415, id="no kind"),
        pytest.param(b'{"domain":"x.example"}', "Application/JSON; charset=utf-8", 200, id="JSON"),
        pytest.param(b"", "application/json", 400, id="nothing"),
        pytest.param(b"{", "application/json", 400, id="half an object"),
        pytest.param(b"[]", "application/json", 400, id="an array"),
        pytest.param(b'"x"', "application/json", 400, id="a text"),
        pytest.param(b"null", "application/json", 400, id="null"),
        pytest.param(b"[" * 50_000, "application/json", 400, id="deep nesting"),
        pytest.param(b'{"domain":1}', "application/json", 400, id="a number for a text"),
        pytest.param(b'{"domain":null}', "application/json", 400, id="null for a text"),
        pytest.param(b'{"domain":"a\\u0000b"}', "application/json", 400, id="a NUL"),
        pytest.param(b'{"domain":"a\\ud800b"}', "application/json", 400, id="half a character"),
        pytest.param(b'{"domain":"\xff"}', "application/json", 400, id="no UTF-8"),
        pytest.param(b'{"domain":"' + b"a" * 60_000 + b'"}', "application/json", 400, id="long"),
        pytest.param(b'{"domain":"a\'; DROP TABLE host; --"}', "application/json", 400, id="SQL"),
    ],
)  # fmt: skip
def test_a_body_that_makes_no_sense_is_told_so(
    tmp_path: Path, filled_url: str, body: bytes, kind: str, status: int
) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            response = await operator.ask("POST", BAN, body, (f"Content-Type: {kind}",))
            assert response.status == status
            if status != 200:
                assert isinstance(json.loads(response.body)["error"], str)
            expected = ["x.example"] if status == 200 else []
            assert await operator.get("/admin/subs/listDomainBans") == {"banned_domains": expected}

    asyncio.run(story())


def test_numbers_and_names_beyond_all_bounds_are_refused_everywhere(
    tmp_path: Path, filled_url: str
) -> None:
    huge = "9" * 400
    gets = [
        f"/admin/repo/takedowns?size={huge}", "/admin/repo/takedowns?cursor=a%00b",
        f"/admin/audit?cursor={huge}", f"/admin/audit?limit={huge}", "/admin/audit?subject=%00",
        f"/admin/hosts/list?cursor={huge}", f"/admin/hosts/list?cursor={2**63}",
        "/admin/hosts/accounts?host=a%00b", "/admin/hosts/show?host=", "/admin/hosts/show",
        "/admin/hosts/show?host=" + "a" * 5000, "/admin/hosts/list?limit=%D9%A3",
    ]  # fmt: skip
    posts = [
        (f"/admin/subs/setPerDayLimit?limit={huge}", None),
        ("/admin/subs/setPerDayLimit?limit=1e3", None),
        (f"/admin/consumers/disconnect?id={huge}", None),
        ("/admin/consumers/disconnect?id=-1", None),
        ("/admin/consumers/disconnect", None),
        ("/admin/pds/block?host=a%00b", None),
        ("/admin/pds/block?host=http://x@y.example", None),
        ("/admin/pds/block?host=ftp://y.example", None),
        ("/admin/pds/block?host=y.example/path", None),
        ("/admin/pds/block", None),
        ("/admin/hosts/cursor", {"host": "one.example", "cursor": 2**53}),
        ("/admin/hosts/cursor", {"host": "one.example", "cursor": 1.5}),
        ("/admin/hosts/cursor", {"host": "one.example", "cursor": True}),
        ("/admin/hosts/cursor", {"host": "one.example", "cursor": int(huge)}),
    ]

    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            for path in gets:
                assert (await operator.refused("GET", path))[0] == 400, path
            for path, value in posts:
                assert (await operator.refused("POST", path, value))[0] == 400, (path, value)
            assert (await operator.get("/admin/audit"))["changes"] == []

    asyncio.run(story())


# --- who may not, what is not there, and what is away ---


PATHS: list[tuple[str, str]] = [
    ("GET", f"/admin/subs/{name}")
    for name in ("getUpstreamConns", "getEnabled", "perDayLimit", "listDomainBans")
] + [
    ("POST", f"/admin/subs/{name}")
    for name in ("killUpstream", "setEnabled", "setPerDayLimit", "banDomain", "unbanDomain")
] + [
    ("GET", "/admin/repo/takedowns"), ("POST", "/admin/repo/takeDown"),
    ("POST", "/admin/repo/reverseTakedown"), ("GET", "/admin/pds/list"),
    ("POST", "/admin/pds/requestCrawl"), ("POST", "/admin/pds/changeLimits"),
    ("POST", "/admin/pds/block"), ("POST", "/admin/pds/unblock"),
    ("POST", "/admin/alerts/accountLimitSent"), ("GET", "/admin/consumers/list"),
    ("POST", "/admin/consumers/disconnect"), ("GET", "/admin/audit"), ("GET", "/admin/control"),
    ("GET", "/admin/accounts/search"), ("GET", "/admin/rejects"),
] + [("GET", f"/admin/hosts/{name}") for name in ("list", "show", "accounts")] + [
    ("POST", f"/admin/hosts/{name}") for name in ("cursor", "trust", "level", "dial", "delete")
]  # fmt: skip


def test_every_path_is_closed_to_strangers_and_has_one_method(tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, admin=ADMIN) as member:
            served = {route.path for route in member.worker._admin.routes()} | {"/admin/rejects"}
            assert served == {path for _method, path in PATHS}
            for number, (method, path) in enumerate(PATHS):
                async with connected(member, f"127.0.1.{number + 1}") as raw:
                    request = (
                        f"{method} {path} HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\n\r\n"
                    )
                    await raw.send(request.encode())
                    assert (await raw.response()).status == 401, path
                    other = {"GET": "POST", "POST": "GET"}[method]
                    for wrong in (other, "DELETE", "PUT"):
                        request = (
                            f"{wrong} {path} HTTP/1.1\r\nHost: relay\r\nAuthorization: {BASIC}\r\n"
                            "Content-Length: 0\r\n\r\n"
                        )
                        await raw.send(request.encode())
                        response = await raw.response()
                        assert response.status == 405, (wrong, path)
                        assert method in response.headers["allow"]
            assert (await Operator(member).refused("GET", "/admin/none"))[0] == 404

    asyncio.run(story())


def test_a_page_of_another_site_changes_nothing_with_a_browsers_password(
    tmp_path: Path, filled_url: str
) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            path = "/admin/pds/block?host=one.example"
            own = "http://relay:2470"
            for headers in (
                ("Sec-Fetch-Site: cross-site",),
                ("Sec-Fetch-Site: same-site",),
                # A browser says nothing of the site where the relay is asked without TLS.
                ("Origin: http://evil.example",),
                ("Origin: null",),
                ("Origin: http://127.0.0.1:1",),
                (f"Origin: {own}.evil.example",),
            ):
                response = await operator.ask("POST", path, None, headers)
                assert response.status == 403, headers
            assert (await operator.get("/admin/audit"))["changes"] == []
            for headers in (
                ("Sec-Fetch-Site: same-origin",),
                ("Sec-Fetch-Site: none",),
                (f"Origin: {own}",),
            ):
                await operator.post(path, headers=headers)

    asyncio.run(story())


def test_unknown_hosts_are_404(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            for path in ("block", "unblock"):
                refused = await operator.refused("POST", f"/admin/pds/{path}?host=no.example")
                assert refused == (404, "no.example is not known here"), path

    asyncio.run(story())


def test_without_the_database_it_is_503_and_the_stream_goes_on(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        async with operated(tmp_path, NO_DATABASE) as operator:
            member = operator.member
            async with member.stream() as stream:
                before = counted("away")
                asking = asyncio.gather(
                    operator.ask("GET", "/admin/pds/list"),
                    operator.ask("POST", "/admin/pds/block?host=one.example"),
                    operator.ask(
                        "POST", "/admin/repo/takeDown", json.dumps({"did": DIDS[0]}).encode()
                    ),
                    operator.ask(
                        "POST", "/admin/pds/requestCrawl", b'{"hostname":"pds.example.com"}'
                    ),
                )
                count = 0
                async with asyncio.timeout(30):
                    while not asking.done():
                        count += 1
                        member.emit(1)
                        assert await seqs(stream, 1) == [count]
                for response in await asking:
                    assert response.status == 503
                    assert response.headers["retry-after"] == "5"
                    assert "database" in json.loads(response.body)["error"]
                assert counted("away") == before + 4
                # What needs no database is there.
                assert len(await operator.get(LIST)) == 1

    loop_run(story())


def test_too_many_at_once_are_told_to_come_again(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            with psycopg.connect(filled_url) as holder:
                holder.execute("LOCK TABLE host IN ACCESS EXCLUSIVE MODE")
                path = "/admin/pds/list"
                waiting = [
                    asyncio.create_task(operator.ask("GET", path)) for _ in range(DESKS + QUEUE)
                ]
                desks = operator.member.worker._admin._desks
                await until(lambda: desks._busy == DESKS + QUEUE)
                refused = await operator.refused("GET", path)
                assert refused == (503, "too many admin requests are waiting")
                holder.rollback()
            for response in await asyncio.gather(*waiting):
                assert response.status == 200
            await until(lambda: desks._busy == 0)

    asyncio.run(story())


def test_one_that_waits_too_long_is_told_so(
    tmp_path: Path, filled_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_desk, "WITHIN_S", 0.2)

    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            with psycopg.connect(filled_url) as holder:
                holder.execute("LOCK TABLE host IN ACCESS EXCLUSIVE MODE")
                refused = await operator.refused("GET", "/admin/pds/list")
                assert refused == (503, "the database takes too long")
                holder.rollback()

    asyncio.run(story())
