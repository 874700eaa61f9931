"""Which lies does an account tell that signs whatever it wants? All of them, each with a name."""

from __future__ import annotations

from typing import Final

from tests.simnet.lie import Lie
from tests.simnet.lies_grown import GROWN
from tests.simnet.lies_packed import CARS, PLAIN, SYNCS
from tests.simnet.lies_signed import COMMITS, RECORDS
from tests.simnet.lies_told import TOLD

LIES: Final[dict[str, Lie]] = {**TOLD, **COMMITS, **RECORDS, **CARS, **SYNCS, **PLAIN, **GROWN}
