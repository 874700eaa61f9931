"""Is docs/command.md what the parsers say, do they teach, and do shells complete them?"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from common.command.__main__ import COMMANDS, make_parser
from common.command.completion import SCRIPTS, words_of
from tests.running import command_page
from tests.running.command_page import is_group, leaves
from tests.running.typed import Typed

PARSERS = list(leaves(make_parser()))
LEAVES = [parser for parser in PARSERS if not is_group(parser)]


def test_the_page_has_every_command() -> None:
    assert command_page.PAGE.read_text() == command_page.page(), (
        "run: python -m tests.running.command_page"
    )


@pytest.mark.parametrize("parser", LEAVES, ids=lambda parser: parser.prog)
def test_every_command_says_what_its_exit_code_means_and_what_each_word_does(
    parser: argparse.ArgumentParser,
) -> None:
    text = parser.description or ""
    assert re.search(r"^exit code: ", text, re.MULTILINE)
    untold = [action.dest for action in parser._actions if not action.help]
    assert untold in ([], ["words"])
    as_json = any("--json" in action.option_strings for action in parser._actions)
    assert as_json is ("--json prints" in text)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_every_example_of_the_help_is_one(parser: argparse.ArgumentParser) -> None:
    """The lines that are set off are typed as they stand: the parsers take them."""
    found = re.findall(
        r"^  (standpipe [^|>\n]*?)(?:  .*| [|>].*)?$", parser.description or "", re.MULTILINE
    )
    if is_group(parser):
        assert found or parser.prog == "standpipe log"
    for line in found:
        chosen = make_parser().parse_args(line.split()[1:])
        assert callable(chosen.work), line
        assert chosen.parser.prog.startswith(parser.prog)


def test_every_command_is_named_by_the_door() -> None:
    help_text = make_parser().format_help()
    for each in COMMANDS:
        assert hasattr(each, "register")
    for parser in PARSERS:
        words = parser.prog.split()
        if len(words) == 2:
            assert re.search(rf"^    {words[1]}\b", help_text, re.MULTILINE)


def completed(tmp_path: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    script = tmp_path / "complete.sh"
    script.write_text(SCRIPTS["bash"](list(words_of(make_parser()))))
    quoted = " ".join(f"'{word}'" for word in ("standpipe", *words))
    told = subprocess.run(
        ["bash", "--norc", "-eu", "-c",
         (f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _standpipe;"
         ' echo "${COMPREPLY[@]}"; complete -p standpipe')],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    offered, registered = told.stdout.splitlines()
    assert "_standpipe" in registered
    return offered.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param(("pro",), ["probe"], id="a command"),
        pytest.param(("hosts", "li"), ["list", "limits"], id="a command of a group"),
        pytest.param(("hosts", "level", "pds.example.com", ""), ["-h", "--help", "--json", "enforce",
                     "observe"], id="a choice, behind a host"),
        pytest.param(("hosts", "list", "--st"), ["--status"], id="an option"),
        pytest.param(("hosts", "list", "--json", "--st"), ["--status"], id="behind an option"),
        pytest.param(("takedown", "add", "did:plc:a", "--js"), ["--json"], id="behind a DID"),
        pytest.param(("nothing", "l"), ["log"], id="behind what is no command: the top"),
    ],
)  # fmt: skip
def test_bash_offers_what_may_follow(
    words: tuple[str, ...], offered: list[str], tmp_path: Path
) -> None:
    found = completed(tmp_path, *words)
    assert sorted(found) == sorted(offered)


def test_bash_knows_every_word_of_every_command(tmp_path: Path) -> None:
    for path, words in words_of(make_parser()):
        assert set(completed(tmp_path, *path.split()[1:], "")) == set(words), path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_reads_its_script(shell: str, typed: Typed, tmp_path: Path) -> None:
    code, out, err = typed("completion", shell)
    assert (code, err) == (0, "")
    for word in ("pull-hosts", "takedown", "enforce"):
        assert word in out
    if shutil.which(shell):
        (tmp_path / "script").write_text(out)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)
    assert typed("completion", "sh")[0] == 2


def test_wrong_words_are_told_with_code_2(typed: Typed) -> None:
    for words in ((), ("fly",), ("hosts",), ("hosts", "fly"), ("status", "--fast")):
        code, out, err = typed(*words)
        assert (code, out) == (2, "")
        assert "usage: standpipe" in err
