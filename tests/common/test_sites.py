"""How much is one stranger's site asked, by whatever names it goes?"""

from __future__ import annotations

import pytest

from common.rates import Rate
from common.sites import Sites, site_of


@pytest.mark.parametrize(
    ("host", "port", "site"),
    [
        ("a.example.com", None, "example.com"),
        ("b.c.Example.com", None, "example.com"),
        ("example.com.", None, "example.com"),
        ("example.com", 443, "example.com"),
        ("localhost", 2583, "localhost:2583"),
        ("192.0.2.1", None, "192.0.2.1"),
        ("2001:db8::1", 80, "2001:db8::1:80"),
    ],
)
def test_all_names_below_one_domain_are_one_site(host: str, port: int | None, site: str) -> None:
    assert site_of(host, port) == site


def test_a_site_is_asked_so_much_at_a_time_and_others_freely() -> None:
    sites = Sites(2, Rate(burst=100, every_s=1.0))
    assert [sites.enter("a.example", 0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert sites.enter("b.example", 0.0) == 0.0
    sites.leave("a.example")
    assert sites.enter("a.example", 0.0) == 0.0
    for site in ("a.example", "a.example", "b.example"):
        sites.leave(site)
    assert len(sites) == 0


def test_a_site_is_asked_so_often_and_what_was_refused_costs_nothing() -> None:
    sites = Sites(10, Rate(burst=2, every_s=1.0))
    for _ in range(2):
        assert sites.enter("a.example", 0.0) == 0.0
        sites.leave("a.example")
    for _ in range(50):
        assert sites.enter("a.example", 0.5) == 0.5
    assert len(sites) == 0
    assert sites.enter("a.example", 1.0) == 0.0
