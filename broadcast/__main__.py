"""python -m broadcast --member n: one broadcaster, from its start to its drained end."""

from __future__ import annotations

import sys

from broadcast.worker import broadcast
from common.process import run

if __name__ == "__main__":
    sys.exit(run("broadcast", broadcast))
