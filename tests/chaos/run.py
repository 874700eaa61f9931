"""python -m tests.chaos.run: `standpipe run`, with the persist that can be told where to die.

The process table is the product's own, and one command in it is another.
"""

from __future__ import annotations

import sys

from common.command import run, table
from common.paths import Paths
from common.settings import Settings

_render = table.render


def _rendered(source: str, settings: Settings, paths: Paths, place: table.Place) -> str:
    text = _render(source, settings, paths, place)
    assert text.count(" -m persist\n") == 1, "the table starts persist in another way"
    return text.replace(" -m persist\n", " -m tests.chaos.persist\n")


if __name__ == "__main__":
    table.render = _rendered
    sys.exit(run.run())
