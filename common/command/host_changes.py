"""What may an operator change of one host? Each action once; common/control.py ~ does it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Final

import orjson

from common.command.changes import KEYS, answer
from common.command.host_check import other_name, server_did
from common.command.host_words import Host, host_value, level_text, limits_line
from common.command.parsers import Commands, command, flag, host_argument, json_option, whole
from common.command.session import Refused, Session, at_tables
from common.command.tables import hostname_of
from common.control import RESET, Action, ControlPlane, Limits, NewHost, parents
from common.fetch import Fetcher, FetchError
from common.limits import TRUSTED_ACCOUNT_LIMIT, is_trusted
from common.target import BadTarget, Target, parse_target
from common.verdict import Level

SEQ_MAX: Final = 2**63 - 1
"""The highest number that a host may give an event. Source: the event-stream spec."""
_ADD: Final = f"""\
Adds a host, once its describeServer has answered, and not with the name of a host that is here. It is read from its first event on unless another
place is named. A host that was deleted comes back under its old number, where it was left off.

  standpipe hosts add pds.example.com
  standpipe hosts add pds.example.com --live --accounts 5000
  standpipe hosts add http://localhost:2583

{KEYS}"""
_BAN: Final = f"""\
Bans a host: its connection ends and it is dialled no more, whatever else is said of it, until it is
unbanned. What it has said before stays. To ban a whole domain: standpipe domains ban.

  standpipe hosts ban pds.example.com

{KEYS}"""
_UNBAN: Final = f"""\
Takes a ban back; the host is dialled at once and read on from where it was left off.

  standpipe hosts unban pds.example.com

{KEYS}"""
_DELETE: Final = f"""\
Reads a host no more, and shows it to nobody. Unlike a ban it does not hinder the host from being added
again; so a banned one is not deleted. What it has said stays in the log; its accounts stay until another
host speaks for them.

  standpipe hosts delete pds.example.com

{KEYS}"""
_DIAL: Final = f"""\
Has a host dialled at once, whatever it waits for; where it is connected, the connection begins anew.

  standpipe hosts dial pds.example.com

{KEYS}"""
_LIMITS: Final = f"""\
Shows what a host may send and how many accounts it may have, or sets it. Events follow from the account
limit by a formula (docs/limits.md) until they are set by hand; `formula` goes back to it. A host that
reaches a limit is read more slowly, and loses nothing.

  standpipe hosts limits pds.example.com
  standpipe hosts limits pds.example.com --accounts 5000
  standpipe hosts limits pds.example.com --per-second 200 --per-day formula

With nothing to set, --json prints the host as `standpipe hosts list` does.

{KEYS}"""
_TRUST: Final = f"""\
Says whether a host is trusted: one that is may send far more (docs/limits.md). Its account limit is
another thing: standpipe hosts limits.

  standpipe hosts trust pds.example.com yes

{KEYS}"""
_LEVEL: Final = f"""\
Shows how a host is judged, or sets it.

  enforce   what fails a check is dropped; every host begins so
  observe   for a host without prevData: what fails only the inversion passes, marked and counted;
            signature, authority, size and structure are never waived

A host at observe moves up to enforce by itself, upon a commit, when nothing was waived for
STANDPIPE_OBSERVE_CLEAN_PERIOD. Nothing becomes observe by itself.

  standpipe hosts level pds.example.com observe

With nothing to set, --json prints the host as `standpipe hosts list` does.

{KEYS}"""
_CURSOR: Final = f"""\
Has a host read from another place: behind a SEQ of its own, from the `start` of what it has, or `live`.
A new generation of its numbers begins: what comes again is judged again, and what is older than what its
accounts have said since is dropped as such.

  standpipe hosts cursor pds.example.com start
  standpipe hosts cursor pds.example.com 184467

{KEYS}"""
_ALERTS: Final = f"""\
Says whether a warning comes when a host is near its account limit.

  standpipe hosts alerts pds.example.com off

{KEYS}"""
_Set = Callable[[ControlPlane, str], bool]


def register(commands: Commands) -> None:
    """Add those of `standpipe hosts` that change something."""
    add = _action(commands, "add", "have one read", _ADD, _add)
    begin = add.add_mutually_exclusive_group()
    begin.add_argument("--live", action="store_true", help="read what comes from now on alone")
    begin.add_argument("--cursor", type=whole(0, SEQ_MAX), metavar="SEQ", help="read behind this")
    add.add_argument("--accounts", type=whole(0, 10**9), metavar="N", help="its account limit")
    add.add_argument(
        "--trusted", action="store_true", help="as if STANDPIPE_TRUSTED_DOMAINS had it"
    )
    add.add_argument("--no-check", action="store_true", help="do not ask its describeServer")
    _action(commands, "ban", "read one no more", _BAN, _ban)
    _action(commands, "unban", "read one again", _UNBAN, _unban)
    _action(commands, "delete", "forget one", _DELETE, _delete)
    _action(commands, "dial", "dial one at once", _DIAL, _dial)
    limits = _action(commands, "limits", "show or set what one may send", _LIMITS, _limits)
    limits.add_argument("--accounts", type=whole(0, 10**9), metavar="N", help="its account limit")
    for unit in ("second", "hour", "day"):
        limits.add_argument(
            f"--per-{unit}", type=_events, metavar="N", help=f"events a {unit}, or `formula`"
        )
    trust = _action(commands, "trust", "say whether one is trusted", _TRUST, _trust)
    trust.add_argument("trusted", metavar="yes|no", type=flag, help="whether it is")
    level = _action(commands, "level", "show or set how strictly one is judged", _LEVEL, _level)
    level.add_argument("level", nargs="?", choices=[str(each) for each in Level], help="none: show")
    cursor = _action(commands, "cursor", "read one from another place", _CURSOR, _cursor)
    cursor.add_argument("cursor", metavar="SEQ|start|live", type=_place, help="where to go on")
    alerts = _action(commands, "alerts", "say whether to warn of one's accounts", _ALERTS, _alerts)
    alerts.add_argument("alerts", metavar="on|off", type=flag, help="whether a warning comes")


def _action(
    commands: Commands, name: str, sentence: str, text: str, work: Callable[..., int]
) -> argparse.ArgumentParser:
    parser = command(commands, name, sentence, text, work)
    host_argument(parser)
    json_option(parser)
    return parser


def _events(word: str) -> int:
    return RESET if word == "formula" else whole(0, 10**9)(word)


def _place(word: str) -> int | None:
    if word == "live":
        return None
    return 0 if word == "start" else whole(0, SEQ_MAX)(word)


def _changed(chosen: argparse.Namespace, action: Action, now: str, change: _Set) -> int:
    """Change something of the host that is meant, and say so."""

    def work(session: Session) -> int:
        name = hostname_of(chosen.host)
        return answer(chosen, action, name, changed=change(session.plane, name), now=now)

    return at_tables(work)


def _add(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        settings = session.settings
        try:
            target = parse_target(
                chosen.host.strip().lower(), allow_insecure=settings.allow_insecure_hosts
            )
        except BadTarget as error:
            raise Refused(str(error)) from None
        name = target.hostname
        banned = session.tables.ban_over(parents(name))
        if banned is not None:
            raise Refused(f"{banned} is banned: standpipe domains unban {banned}")
        changed = False
        if not session.tables.known_hosts([name]):
            trusted = chosen.trusted or is_trusted(name, settings.trusted_domains)
            limit = TRUSTED_ACCOUNT_LIMIT if trusted else settings.default_account_limit
            cursor = None if chosen.live else chosen.cursor or 0
            did = None
            if not chosen.no_check:
                did = asyncio.run(_checked(target, allow_insecure=settings.allow_insecure_hosts))
                other = other_name(did, name)
                if other is not None and session.tables.known_hosts([other]):
                    raise Refused(
                        f"{name} was not added: it calls itself {other}, which is here;"
                        " --no-check adds it all the same"
                    )
            host = NewHost(
                name, target.tls, limit if chosen.accounts is None else chosen.accounts, trusted,
                cursor, "operator", did,
            )  # fmt: skip
            changed = session.plane.add_host(host)
        now = "is added" if changed else "is there"
        return answer(chosen, Action.ADD_HOST, name, changed=changed, now=now)

    return at_tables(work)


async def _checked(target: Target, *, allow_insecure: bool) -> str:
    """Raises: Refused: it does not answer as a PDS does."""
    async with Fetcher(allow_insecure=allow_insecure) as fetcher:
        try:
            return await server_did(fetcher, target)
        except FetchError as error:
            raise Refused(
                f"{target.hostname} was not added: {error}; --no-check adds it all the same"
            ) from None


def _ban(chosen: argparse.Namespace) -> int:
    return _changed(chosen, Action.BAN_HOST, "is banned", ControlPlane.ban_host)


def _unban(chosen: argparse.Namespace) -> int:
    return _changed(chosen, Action.UNBAN_HOST, "is not banned", ControlPlane.unban_host)


def _delete(chosen: argparse.Namespace) -> int:
    return _changed(chosen, Action.DELETE_HOST, "is deleted", ControlPlane.delete_host)


def _dial(chosen: argparse.Namespace) -> int:
    return _changed(chosen, Action.DIAL_HOST, "is being dialled", ControlPlane.dial_host)


def _trust(chosen: argparse.Namespace) -> int:
    now = "is trusted" if chosen.trusted else "is not trusted"
    return _changed(
        chosen, Action.SET_TRUST, now, lambda plane, name: plane.set_trusted(name, chosen.trusted)
    )


def _cursor(chosen: argparse.Namespace) -> int:
    now = "is read live" if chosen.cursor is None else f"is read from behind {chosen.cursor}"
    return _changed(
        chosen, Action.SET_CURSOR, now, lambda plane, name: plane.set_cursor(name, chosen.cursor)
    )


def _alerts(chosen: argparse.Namespace) -> int:
    now = "is warned of" if chosen.alerts else "is not warned of"
    return _changed(
        chosen, Action.SILENCE_ALERTS, now,
        lambda plane, name: plane.silence_alerts(name, not chosen.alerts),
    )  # fmt: skip


def _limits(chosen: argparse.Namespace) -> int:
    wanted = Limits(chosen.accounts, chosen.per_second, chosen.per_hour, chosen.per_day)

    def work(session: Session) -> int:
        name = session.tables.host(chosen.host).hostname
        changed = wanted != Limits() and session.plane.set_limits(name, wanted)
        host = session.tables.host(name)
        now = f"may have {host.account_limit:,} accounts, and send {limits_line(host)}"
        if wanted == Limits():
            return _shown(chosen, host, now)
        return answer(chosen, Action.SET_LIMITS, name, changed=changed, now=now)

    return at_tables(work)


def _level(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        name = session.tables.host(chosen.host).hostname
        asked = chosen.level is not None
        changed = asked and session.plane.set_level(name, Level(chosen.level))
        host = session.tables.host(name)
        now = f"is judged {level_text(host, session.settings.observe_clean_s)}"
        if not asked:
            return _shown(chosen, host, now)
        return answer(chosen, Action.SET_LEVEL, name, changed=changed, now=now)

    return at_tables(work)


def _shown(chosen: argparse.Namespace, host: Host, now: str) -> int:
    """What holds; nothing was asked for."""
    print(orjson.dumps(host_value(host)).decode() if chosen.json else f"{host.hostname} {now}")
    return 0
