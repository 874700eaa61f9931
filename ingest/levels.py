"""What speaks for judging a host at `observe` strictly again?

    judged events of hosts at `observe` ─▶ Watch.note ─▶ take ─▶ table `host` (ingest.host_table), which decides

A host moves up by itself when nothing was waived for the clean period and it has shown, at its end,
that its commits pass: silence proves nothing, so the move happens upon a commit. An account's first
commit proves nothing either, as it may come without `prevData` from anybody.

Nothing here makes a host `observe`: only an operator does. No I/O, no clock.

Source: S-VAL-23.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from common.envelope import Judged, Kind, Mark


class Seen(NamedTuple):
    """What passed from one host at `observe` since the last time.

    waived: whether something was let through. checked: commits after the last such one that passed
    everything and had a `prevData` to be held against.
    """

    host: int
    waived: bool
    checked: int


class Watch:
    """The hosts of this process that are at `observe`, and what was seen of each."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen | None] = {}

    def hosts(self, hosts: Iterable[int]) -> None:
        """From now on these are at `observe`, and no others."""
        self._seen = {host: self._seen.get(host) for host in hosts}

    def note(self, judged: Judged) -> None:
        """An event passed the judge."""
        if judged.host in self._seen and judged.kind == Kind.COMMIT:
            before = self._seen[judged.host] or Seen(judged.host, waived=False, checked=0)
            if judged.marks & Mark.WAIVED:
                self._seen[judged.host] = Seen(judged.host, waived=True, checked=0)
            elif judged.base.rev is not None:
                self._seen[judged.host] = before._replace(checked=before.checked + 1)

    def take(self) -> list[Seen]:
        """What is new, of the hosts of which something is."""
        new = [seen for seen in self._seen.values() if seen is not None]
        self._seen = dict.fromkeys(self._seen)
        return new

    def give_back(self, taken: Sequence[Seen]) -> None:
        """These could not be written down: they come again, with what is newer."""
        for old in taken:
            new = self._seen.get(old.host)
            if new is None:
                new = Seen(old.host, waived=False, checked=0)
            if old.host in self._seen:
                checked = new.checked if new.waived else old.checked + new.checked
                self._seen[old.host] = Seen(old.host, old.waived or new.waived, checked)
