"""What did a verification find, and how is it told?

One line for each finding, on standard output: `damage` of the log, or a `mismatch` of what stands beside
it. The first SHOWN are printed, the rest is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHOWN: Final = 200
"""Findings that are told; the rest is counted."""


@dataclass(slots=True)
class Report:
    """What was found, and what was looked at.

    findings: how many. events, bytes: of the log. whole, partly: accounts compared, in all fields
    or in those that the log tells. left: accounts whose events have all left the log. lost: whose newest
    one cannot be read. cursors: of hosts, compared. cursors_above: a little above what left a trace.
    """

    findings: int = 0
    events: int = 0
    bytes: int = 0
    whole: int = 0
    partly: int = 0
    left: int = 0
    lost: int = 0
    cursors: int = 0
    cursors_above: int = 0

    def tell(self, kind: str, what: str) -> None:
        """Print a finding."""
        self.findings += 1
        if self.findings <= SHOWN:
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
