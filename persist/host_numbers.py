"""Does the database mean by each host's number what the log means by it?

    same number, same name      yes
    number and name are free    the host is missing: the database is new, or an older backup; it goes
                                back in with its number and its cursor
    the name has another        somebody added the host again by hand, and did not know how far it was
                                read: it goes on from the cursor it had, where that is farther
    the number is another's     what the log says of that number was said of somebody else: the other
                                one begins a new generation, and the host goes in under a new number

Rows of the log name a host by (number, generation) alone. A number that came to mean somebody else
would have new events taken for old ones.

Values in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from persist.checkpoint import KnownHost


class Reconciled(NamedTuple):
    """What follows for the database.

    missing: hosts to be put back under their numbers. renumbered: under new ones.
    strangers: numbers of which nothing in the log, up to now, was said of whom they mean now.
    moved: hosts that are there under other numbers, by the number that they have now.
    """

    missing: list[KnownHost]
    renumbered: list[KnownHost]
    strangers: set[int]
    moved: dict[int, KnownHost]


def reconcile(remembered: Iterable[KnownHost], found: Iterable[KnownHost]) -> Reconciled:
    """Compare the checkpoint's hosts with the database's."""
    names = {host.id: host.hostname for host in found}
    numbers = {name: number for number, name in names.items()}
    result = Reconciled([], [], set(), {})
    for host in remembered:
        name = names.get(host.id)
        if name == host.hostname:
            continue
        if name is not None:
            result.strangers.add(host.id)
        if host.hostname in numbers:
            result.moved[numbers[host.hostname]] = host
        else:
            (result.missing if name is None else result.renumbered).append(host)
    return result
