"""broadcast.admin: who gets in, and who does not."""

from __future__ import annotations

from base64 import b64encode
from hmac import compare_digest

import pytest

from broadcast import admin
from broadcast.admin import may_enter

PASSWORD = "pass:wörd"


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


def bearer(token: str) -> str:
    """As a server hands it on: each byte a character."""
    return "Bearer " + token.encode().decode("latin-1")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(basic(f"admin:{PASSWORD}"), id="the user admin with the password"),
        pytest.param(basic(f"admin:{PASSWORD}").replace("Basic", "bASIC"), id="any case"),
        pytest.param(bearer(PASSWORD), id="the password as a token"),
        pytest.param("  " + bearer(PASSWORD).replace(" ", "   "), id="more spaces"),
    ],
)
def test_the_operator_gets_in(header: str) -> None:
    assert may_enter(header, (PASSWORD,))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="no header"),
        pytest.param("", id="an empty header"),
        pytest.param(basic(f"root:{PASSWORD}"), id="another user"),
        pytest.param(basic("admin:pass"), id="a part of the password"),
        pytest.param(basic(f"admin:{PASSWORD}x"), id="more than the password"),
        pytest.param(basic(PASSWORD), id="no user"),
        pytest.param("Basic not*base64", id="no base64"),
        pytest.param(basic(f"admin:{PASSWORD}") + "*", id="base64 and more"),
        pytest.param("Basic", id="nothing behind the scheme"),
        pytest.param("Bearer", id="no token"),
        pytest.param(bearer(PASSWORD[:-1]), id="a part of the token"),
        pytest.param("Bearer \u20ac", id="a token that no header can carry"),
        pytest.param(PASSWORD, id="no scheme"),
        pytest.param("Digest " + PASSWORD, id="another scheme"),
    ],
)
def test_nobody_else_gets_in(header: str | None) -> None:
    assert not may_enter(header, (PASSWORD,))


def test_without_a_password_nobody_gets_in() -> None:
    assert not may_enter(basic("admin:"), ("",))
    assert not may_enter("Bearer ", ("",))
    assert not may_enter(None, ("",))


@pytest.mark.parametrize(
    "token", ["p", PASSWORD[:-1], "older", PASSWORD, "x" * 10_000], ids=lambda token: token[:9]
)
def test_each_password_is_compared_whole_whatever_was_given(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the time tells neither how much of one is right nor which, nor how long one is."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare_digest(one, other)

    monkeypatch.setattr(admin, "compare_digest", compare)
    assert may_enter(bearer(token), (PASSWORD, "older")) is (token in (PASSWORD, "older"))
    assert compared == [(32, 32)] * 2
