"""`fleet`: real processes in a data folder of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running.fleet import Fleet, fleet_in


@pytest.fixture
def fleet(data_dir: Path) -> Iterator[Fleet]:
    with fleet_in(data_dir) as found:
        yield found
