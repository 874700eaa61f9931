"""docs/admin.md: each example of the admin API is typed, in order, and every path has one."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from broadcast.crawl import Rules
from tests.broadcast.operator import fill, operated
from tests.relay import ROOT

_ANY: Final = "…"
_PAGE: Final = (ROOT / "docs" / "admin.md").read_text()


class Example(NamedTuple):
    method: str
    path: str
    body: str | None
    answer: Any


def examples() -> list[Example]:
    found = []
    for block in re.findall(r"^```http\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL):
        for request, answer in re.findall(r"^([A-Z]+ .*)\n→ (.*)$", block, re.MULTILINE):
            method, path, *body = request.split(" ", 2)
            found.append(Example(method, path, body[0] if body else None, json.loads(answer)))
    return found


def fits(found: Any, example: Any) -> bool:
    """Whether an answer is as the page has it."""
    if example == _ANY:
        return True
    if isinstance(example, dict) and isinstance(found, dict):
        keys = set(example) - {_ANY}
        more = _ANY in example
        return (keys <= set(found) if more else keys == set(found)) and all(
            fits(found[key], example[key]) for key in keys
        )
    if isinstance(example, list) and isinstance(found, list):
        return len(found) == len(example) and all(map(fits, found, example))
    return bool(found == example)


@pytest.mark.parametrize(
    ("found", "example", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "…": "…"}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1}, {"a": "…"}, True),
        ([1, 2], [1, "…"], True),
        ([1, 2], [1], False),
        ({"a": 1}, {"a": 2}, False),
    ],
)
def test_an_example_fits_what_it_says(found: Any, example: Any, *, same: bool) -> None:
    assert fits(found, example) is same


def test_every_example_is_answered_as_the_page_says(tmp_path: Path, postgres_url: str) -> None:
    fill(postgres_url)
    typed = examples()
    assert len(typed) > 30

    async def story() -> None:
        crawl = Rules(allow_insecure=True)
        async with operated(tmp_path, postgres_url, crawl=crawl) as operator:
            served = {route.path for route in operator.member.worker._admin.routes()}
            shown = {path.partition("?")[0] for _method, path, _body, _answer in typed}
            assert served - shown == set()
            async with operator.member.stream():
                number = "1"
                for method, path, body, answer in typed:
                    target = path.replace("?id=1", f"?id={number}")
                    raw = None if body is None else body.encode()
                    response = await operator.ask(method, target, raw)
                    assert response.status == 200, (path, response)
                    found = json.loads(response.body)
                    if path == "/admin/consumers/list":
                        number = str(found[0].pop("id"))
                        answer[0].pop("id")
                    assert fits(found, answer), (path, found)

    asyncio.run(story())
