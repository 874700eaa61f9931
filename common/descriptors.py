"""Has this process run out of file descriptors? Whoever meets it says so here, loudly and not too often.

What a host has to do with it is nothing: its connection failed for a reason of ours.
"""

from __future__ import annotations

import errno
import logging
import resource
import time
from typing import Final

SAY_AGAIN_S: Final = 10.0
_OURS: Final = {errno.EMFILE, errno.ENFILE}
_log = logging.getLogger("standpipe")
_said_s = float("-inf")


def used_up(error: OSError) -> bool:
    """Whether this error means that; if so, it is in the log."""
    global _said_s
    if error.errno not in _OURS:
        return False
    now_s = time.monotonic()
    if now_s - _said_s > SAY_AGAIN_S:
        _said_s = now_s
        _log.error(
            "no file descriptors left: raise the limit (ulimit -Hn, LimitNOFILE=), or start another process",
            extra={"fields": {
                "limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "error": str(error),
            }},
        )  # fmt: skip
    return True
