"""Are events being delivered by this member?

Health is a statement about delivery: it needs persist to be heard from, and this member's head to
keep up with the log's. An open port says nothing, and neither does a network without events:
persist beats when nothing happens. While our clock is doubted events of most hosts are held back,
so then it is not delivery either. Without PostgreSQL the accounts that persist has in memory go on,
which is delivery, degraded; once an event has to wait for what only PostgreSQL knows, it is none.
Degraded is also a log that gives up its oldest events early, as the disk is nearly full.

This module has no clock; all times are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from broadcast.config import BEHIND_S, DATABASE_SILENCE_S, SILENCE_S


class Reason(StrEnum):
    """Why this member is not healthy, or degraded, for programs; the message beside it is for people."""

    ENDING = "ending"
    NO_LOG = "no_log"
    SILENT = "silent"
    BEHIND = "behind"
    CLOCK = "clock"
    DATABASE = "database"
    DISK = "disk"


class Unhealthy(NamedTuple):
    """Why nothing can be delivered, or not everything."""

    reason: Reason
    message: str


@dataclass(slots=True)
class Pulse:
    """What is known of the way from persist to the consumers; times on one monotone clock.

    opened: the log can be read. heard_s: when a chunk or beat of the newest writer last came.
    level_s: when this member's head was last at the log's durable head.
    clock_suspect: persist said last that an ingest process believes our clock wrong.
    database_away, events_held: persist said last that PostgreSQL does not answer, and that events
        wait for it. disk_low: that the disk of the log is nearly full.
    database_s: when PostgreSQL last answered this member, which asks whether there is traffic or not;
        None before it asked.
    """

    opened: bool = False
    heard_s: float | None = None
    level_s: float | None = None
    draining: bool = False
    clock_suspect: bool = False
    database_away: bool = False
    events_held: bool = False
    disk_low: bool = False
    database_s: float | None = None


def why_degraded(pulse: Pulse, now_s: float) -> Unhealthy | None:
    """What is missing while all that comes is delivered; None when nothing is.

    To be asked after `why_unhealthy`.
    """
    if pulse.database_away:
        message = "PostgreSQL does not answer: accounts that are in memory go on, others would wait"
        return Unhealthy(Reason.DATABASE, message)
    if pulse.database_s is not None and now_s - pulse.database_s > DATABASE_SILENCE_S:
        silent_s = now_s - pulse.database_s
        message = f"PostgreSQL has not answered this member for {silent_s:.0f} s: events go on"
        return Unhealthy(Reason.DATABASE, message)
    if pulse.disk_low:
        message = "the disk is nearly full: the oldest events leave the window before their time"
        return Unhealthy(Reason.DISK, message)
    return None


def why_unhealthy(pulse: Pulse, now_s: float) -> Unhealthy | None:
    """Why nothing can be delivered; None when it can."""
    if pulse.draining:
        return Unhealthy(Reason.ENDING, "this member is ending")
    if not pulse.opened:
        return Unhealthy(Reason.NO_LOG, "the log is not there yet")
    if pulse.heard_s is None:
        return Unhealthy(Reason.SILENT, "nothing has come from persist yet")
    silent_s = now_s - pulse.heard_s
    if silent_s > SILENCE_S:
        return Unhealthy(Reason.SILENT, f"nothing has come from persist for {silent_s:.0f} s")
    if pulse.level_s is None or now_s - pulse.level_s > BEHIND_S:
        return Unhealthy(Reason.BEHIND, "this member is behind the log")
    if pulse.clock_suspect:
        message = "most hosts write revs from the future: is the clock of this machine right?"
        return Unhealthy(Reason.CLOCK, message)
    if pulse.events_held:
        return Unhealthy(Reason.DATABASE, "events wait for PostgreSQL, which does not answer")
    return None
