"""Which hosts are there, how is each judged, and from now on how shall one be judged?"""

from __future__ import annotations

import orjson

from common.command.control import Control, command
from common.command.words import changed_text, host_value, hosts_text, level_text
from common.settings import Settings
from common.verdict import Level


def hosts(*, as_json: bool) -> int:
    """Print all hosts; returns the exit code."""

    def work(_settings: Settings, control: Control) -> int:
        found = control.hosts()
        if as_json:
            print(orjson.dumps([host_value(host) for host in found]).decode())
        else:
            print(hosts_text(found))
        return 0

    return command(work)


def level(name: str, wanted: Level | None) -> int:
    """Set the level of a host, or print it; returns the exit code."""

    def work(settings: Settings, control: Control) -> int:
        before = control.host(name)
        if wanted is not None:
            control.set_level(before, wanted)
        host = control.host(name)
        if wanted is not None:
            print(changed_text(host, before))
        print(level_text(host, settings.observe_clean_s))
        return 0

    return command(work)
