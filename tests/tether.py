"""python -m tests.tether COMMAND…: become COMMAND, but end (SIGTERM) with whoever started it.

Even a test run that is killed leaves no relay behind. Not done between fork and exec of the
starter itself: that is unsafe where it has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.execv(sys.argv[1], sys.argv[1:])
