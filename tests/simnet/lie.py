"""What is one kind of lie? Its name stands in a registry: the reason it must be dropped for, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from common.envelope import Mark
from common.verdict import DropReason
from tests.simnet.events import Event
from tests.simnet.source import Source


class Lie(NamedTuple):
    """One kind. reason: None for what looks strange and must pass. marks: how it passes.

    make: builds it. What must pass really happens to the account, so that its next commit follows.
    """

    reason: DropReason | None
    make: Callable[[Source], Event]
    marks: Mark = Mark(0)
