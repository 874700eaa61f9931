"""docs/settings.md, as the table of settings has it.

python -m tests.running.settings_page        writes the page anew
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from common.settings import TABLE

PAGE: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "settings.md"

_HEAD: Final = """\
# Settings

Settings are environment variables. An empty one counts as not set. All that are wrong are told at
once, on standard error, and the exit code is 2; a name beginning with `STANDPIPE_` that is none of
these is told in a warning. The last column has the names that the reference relay uses for the same
thing; where both are given, ours wins.

Durations are written as `72h`, `90m` or `1h30m`; sizes as `500G` or `64MiB`; lists with commas.

| name | default | what it does | also read from |
| --- | --- | --- | --- |
"""

_FOOT: Final = """\

`SSL_CERT_FILE` and `SSL_CERT_DIR` name the certificates that hosts are checked against, in place of the
system's. `TMPDIR` is where port locks lie, and sockets when the data folder's path is too long for
them.
"""


def page() -> str:
    lines = []
    for row in TABLE:
        default = f"`{row.default}`" if row.default else "not set"
        aliases = ", ".join(f"`{alias}`" for alias in row.aliases)
        lines.append(f"| `{row.name}` | {default} | {row.sentence} | {aliases} |\n")
    return _HEAD + "".join(lines) + _FOOT


if __name__ == "__main__":
    PAGE.write_text(page())
