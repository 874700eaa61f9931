"""Are events being delivered by this member?

Health is a statement about delivery: it needs persist to be heard from, and this member's head to
keep up with the log's. An open port says nothing, and neither does a network without events:
persist beats when nothing happens.

This module has no clock; all times are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from broadcast.config import BEHIND_S, SILENCE_S


@dataclass(slots=True)
class Pulse:
    """What is known of the way from persist to the consumers; times on one monotone clock.

    opened: the log can be read. heard_s: when a chunk or beat of the newest writer last came.
    level_s: when this member's head was last at the log's durable head.
    """

    opened: bool = False
    heard_s: float | None = None
    level_s: float | None = None
    draining: bool = False


def why_unhealthy(pulse: Pulse, now_s: float) -> str | None:
    """Why nothing can be delivered; None when it can."""
    if pulse.draining:
        return "this member is ending"
    if not pulse.opened:
        return "the log is not there yet"
    if pulse.heard_s is None:
        return "nothing has come from persist yet"
    silent_s = now_s - pulse.heard_s
    if silent_s > SILENCE_S:
        return f"nothing has come from persist for {silent_s:.0f} s"
    if pulse.level_s is None or now_s - pulse.level_s > BEHIND_S:
        return "this member is behind the log"
    return None
