"""What a host says of an account, and for which events that counts."""

from __future__ import annotations

import orjson
import pytest

from common.target import Target
from ingest.inquiry import REMEMBERED, Inquiries, Told, read_answer, status_url

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
ACTIVE = Told(known=True, active=True, status=None, asked_s=100.0)
INACTIVE = Told(known=True, active=False, status="deactivated", asked_s=100.0)
UNKNOWN = Told(known=False, active=False, status=None, asked_s=100.0)


def inquiries(again_s: float = 5.0) -> tuple[Inquiries, list[tuple[str, int]]]:
    asked: list[tuple[str, int]] = []
    return Inquiries(lambda did, host: asked.append((did, host)), again_s), asked


def test_one_question_serves_all_events_that_wait_for_it() -> None:
    questions, asked = inquiries()
    for _ in range(100):
        questions.ask(DID, 1)
    questions.ask(DID, 2)
    assert asked == [(DID, 1), (DID, 2)]
    assert len(questions) == 2
    questions.told(DID, 1, INACTIVE)
    questions.ask(DID, 1)
    assert asked[2:] == [(DID, 1)]


def test_active_counts_only_for_what_came_before_the_question() -> None:
    questions, _ = inquiries()
    questions.told(DID, 1, ACTIVE)
    assert questions.answer(DID, 1, 100.0) is ACTIVE
    assert questions.answer(DID, 1, 100.1) is None
    assert questions.answer(DID, 2, 99.0) is None


@pytest.mark.parametrize("told", [INACTIVE, UNKNOWN], ids=["inactive", "no answer"])
def test_anything_else_counts_for_some_seconds_more(told: Told) -> None:
    questions, _ = inquiries(again_s=5.0)
    questions.told(DID, 1, told)
    assert questions.answer(DID, 1, 105.0) is told
    assert questions.answer(DID, 1, 105.1) is None


def test_answers_are_remembered_within_a_bound() -> None:
    questions, _ = inquiries()
    for number in range(REMEMBERED + 10):
        questions.told(f"did:{number}", 1, INACTIVE)
    assert questions.answer("did:9", 1, 100.0) is None
    assert questions.answer("did:10", 1, 100.0) is INACTIVE


def read(code: int, body: bytes) -> Told | None:
    return read_answer(code, body, DID, 100.0)


def answer(**fields: object) -> bytes:
    return orjson.dumps({"did": DID, "active": True, **fields})


def test_answers_are_read_as_hosts_give_them() -> None:
    assert read(200, answer(rev="3k")) == ACTIVE
    assert read(200, answer(active=False, status="deactivated")) == INACTIVE
    assert read(200, answer(active=False)) == INACTIVE._replace(status=None)
    # S-ACC-05.
    assert read(200, answer(active=False, status="ill")) == INACTIVE._replace(status="ill")
    for code in (400, 404):
        assert read(code, b'{"error":"RepoNotFound"}') == INACTIVE._replace(status=None)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, answer(did="did:plc:other")),
        (200, answer(active=1)),
        (200, answer(active="yes")),
        (200, orjson.dumps({"did": DID})),
        (404, b'{"error":"NotFound"}'),
        (400, answer()),
        (401, b'{"error":"RepoNotFound"}'),
        (429, answer(active=False)),
        (500, answer(active=False)),
    ],
)
def test_what_is_no_answer_about_the_account_says_nothing(code: int, body: bytes) -> None:
    assert read(code, body) is None


def test_a_status_that_is_none_is_left_out() -> None:
    for status in (7, "", "x" * 65, None, ["a"]):
        told = read(200, answer(active=False, status=status))
        assert told == INACTIVE._replace(status=None), status


def test_hosts_are_asked_at_their_own_address() -> None:
    path = "/xrpc/com.atproto.sync.getRepoStatus?did=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz"
    assert status_url(Target("pds.example.com", tls=True), DID) == f"https://pds.example.com{path}"
    assert status_url(Target("localhost:2583", tls=False), DID) == f"http://localhost:2583{path}"
