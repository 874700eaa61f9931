"""Which keys let ingest on another machine in?"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final

from common import curve
from common.command.parsers import Commands, command
from common.command.session import say
from common.process import EXIT_FAULT

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TEXT: Final = f"""\
Makes the keys by which persist and the ingest processes of other machines know each other: in DIR a
folder {curve.PERSIST}, which stays where persist runs, and one for each other machine, by the NAMEs that you
give them ({curve.FIRST}, if you give none). Run again with another NAME it adds a machine. Nothing is overwritten.

  standpipe curve keys                on the machine with persist
  standpipe curve keys second third   two more machines

Who has a machine's folder is let in as that machine; to shut it out remove
NAME.pub from DIR/{curve.PERSIST}/clients and restart its ingest. docs/scaling.md has the rest.

exit code: 0 · 1 there are such keys already, or they cannot be written · 2 wrong words
"""


def register(commands: Commands) -> None:
    """Add `standpipe curve`."""
    parser = command(commands, "curve", "make the keys for ingest on other machines", _TEXT, _curve)
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the keys lie")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", type=_name, help="a machine; lower-case letters, digits"
    )


def _curve(chosen: argparse.Namespace) -> int:
    names = chosen.names or [curve.FIRST]
    try:
        made = curve.make(chosen.folder, names)
    except OSError as error:
        say(str(error))
        return EXIT_FAULT
    server = chosen.folder.absolute() / curve.PERSIST
    for folder in made:
        print(f"made {folder}")
    print(f"\npersist's machine   STANDPIPE_CURVE_DIR={server}")
    for name in names:
        print(
            f"machine {name}: copy {chosen.folder / name} there, with its modes; STANDPIPE_CURVE_DIR"
            f" names it there"
        )
    return 0


def _name(word: str) -> str:
    if not _NAME.fullmatch(word) or word == curve.PERSIST:
        raise argparse.ArgumentTypeError(f"{word!r} is no name for a machine; write second")
    return word
