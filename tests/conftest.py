"""Which fixtures do all tests share? Plugins by subject; each file says what it gives."""

from __future__ import annotations

pytest_plugins = ["tests.fix_loop", "tests.fix_net", "tests.fix_postgres"]
