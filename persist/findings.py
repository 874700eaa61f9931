"""What did a verification find, and how is it told?

One line for each finding, on standard output: `damage` of the log, or a `mismatch` of what stands beside
it. The first SHOWN are printed, the rest is counted. For scripts all of it is one object, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

SHOWN: Final = 200
"""Findings that are told; the rest is counted."""


@dataclass(slots=True)
class Report:
    """What was found, and what was looked at.

    as_json: nothing is printed; `value` has it. findings: how many. told: of each kind. events, bytes: of the log. whole, partly: accounts compared, in all fields
    or in those that the log tells. left: accounts whose events have all left the log. lost: whose newest
    one cannot be read. cursors: of hosts, compared. cursors_above: a little above what left a trace.
    """

    as_json: bool = False
    findings: int = 0
    told: dict[str, list[str]] = field(default_factory=dict)
    events: int = 0
    bytes: int = 0
    whole: int = 0
    partly: int = 0
    left: int = 0
    lost: int = 0
    cursors: int = 0
    cursors_above: int = 0

    def tell(self, kind: str, what: str) -> None:
        """Say a finding."""
        self.findings += 1
        if self.findings <= SHOWN:
            self._say(kind, what)

    def note(self, what: str) -> None:
        """Say what is no finding."""
        self._say("note", what)

    def _say(self, kind: str, what: str) -> None:
        if self.as_json:
            self.told.setdefault(kind, []).append(what)
        else:
            print(f"{kind}: {what}", flush=True)

    def summary(self, rate: str, *, view: bool) -> str:
        """The last lines. rate: how quickly the log was read. view: whether it was compared."""
        text = ""
        if self.findings > SHOWN:
            text = f"… and {self.findings - SHOWN} more\n"
        text += f"log: {self.events} events, {self.bytes:,} bytes, {rate}"
        if view:
            text += (
                f"\nview: {self.whole + self.partly} accounts compared ({self.partly} of them in "
                f"part), {self.left} have left the log, {self.lost} lie where it is lost; "
                f"{self.cursors} cursors"
            )
            if self.cursors_above:
                text += f", {self.cursors_above} of them a little above what left a trace"
        found = f"{self.findings} found" if self.findings else "sound"
        return f"{text}\n{found}"

    def value(self, *, view: bool) -> dict[str, Any]:
        """All of it, for scripts. view: whether it was compared."""
        return {
            "sound": not self.findings,
            "findings": self.findings,
            "damage": self.told.get("damage", []),
            "mismatches": self.told.get("mismatch", []),
            "notes": self.told.get("note", []),
            "events": self.events,
            "bytes": self.bytes,
            "view": {
                "accounts": self.whole + self.partly,
                "in_part": self.partly,
                "left": self.left,
                "lost": self.lost,
                "cursors": self.cursors,
                "cursors_above": self.cursors_above,
            }
            if view
            else None,
        }
