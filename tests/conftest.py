"""Which fixtures do all tests share? Plugins by subject; each file says what it gives."""

from __future__ import annotations

import signal

from hypothesis import settings

pytest_plugins = ["tests.fix_loop", "tests.fix_net", "tests.fix_postgres"]

# A shell that starts the tests in the background has them ignore these, and every process of a relay
# under test with them: none would hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# Hypothesis gives an example 200 ms by the clock on the wall, and the first ones together a second; what
# the machine runs instead is no fault of theirs.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
