"""Which words may come next on a shell's command line? The parsers, as bash, zsh or fish read them.

    make_parser() ─▶ words_of: path ─▶ what may follow ─▶ one script for each shell

The script is written once and knows all words; nothing is asked while the operator types.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from common.command.parsers import Commands, command

_TEXT: Final = """\
Prints what lets a shell complete the words of standpipe.

  bash   echo 'source <(standpipe completion bash)' >> ~/.bashrc
  zsh    echo 'source <(standpipe completion zsh)' >> ~/.zshrc         (behind compinit)
  fish   standpipe completion fish > ~/.config/fish/completions/standpipe.fish

exit code: 0 · 2 wrong words
"""


class Words(NamedTuple):
    """What may follow a command: words with a sentence each. path: `standpipe hosts`, with blanks."""

    path: str
    words: dict[str, str]


def register(commands: Commands, parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Add `standpipe completion`. parser: makes the one of all commands."""

    def work(chosen: argparse.Namespace) -> int:
        print(SCRIPTS[chosen.shell](list(words_of(parser()))), end="")
        return 0

    added = command(commands, "completion", "complete words in a shell", _TEXT, work)
    added.add_argument("shell", choices=sorted(SCRIPTS), help="which one")


def words_of(parser: argparse.ArgumentParser) -> Iterator[Words]:
    """Every command and what may follow it, from the top."""
    words: dict[str, str] = {}
    below: list[argparse.ArgumentParser] = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to look
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for choice in action._choices_actions:  # noqa: SLF001 - as above
                words[choice.dest] = choice.help or ""
            below += dict.fromkeys(action.choices.values())
        elif action.option_strings:
            words |= dict.fromkeys(action.option_strings, action.help or "")
        elif action.choices is not None:
            words |= dict.fromkeys(map(str, action.choices), action.help or "")
    yield Words(parser.prog, words)
    for each in below:
        yield from words_of(each)


def bash(table: list[Words]) -> str:
    """For bash: the longest command that was typed says what may follow."""
    cases = "".join(f'        "{each.path}") words="{" ".join(each.words)}" ;;\n' for each in table)
    return f"""\
_standpipe() {{
    local path=standpipe words="" word
    COMPREPLY=()
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case " $(_standpipe_words "$path") " in
            *" $word "*) case "$word" in -*) ;; *) path="$path $word" ;; esac ;;
        esac
    done
    words=$(_standpipe_words "$path")
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
_standpipe_words() {{
    local words=""
    case "$1" in
{cases}    esac
    echo "$words"
}}
complete -o default -F _standpipe standpipe
"""


def zsh(table: list[Words]) -> str:
    """For zsh: bash's, by its own layer for those."""
    return f"autoload -U +X bashcompinit && bashcompinit\n{bash(table)}"


def fish(table: list[Words]) -> str:
    """For fish: a line for each word, with its sentence."""
    lines = ["complete -c standpipe -e\n"]
    for each in table:
        typed = each.path.split()[1:]
        deeper = [
            other.path.split()[-1] for other in table if other.path.startswith(f"{each.path} ")
        ]
        inner = [name for name in deeper if name in each.words]
        condition = "; and ".join(f"__fish_seen_subcommand_from {name}" for name in typed)
        if inner:
            unseen = f"not __fish_seen_subcommand_from {' '.join(inner)}"
            condition = f"{condition}; and {unseen}" if condition else unseen
        for word, sentence in each.words.items():
            name = f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}"
            what = name if word.startswith("-") else f"-f -a {word}"
            lines.append(
                f"complete -c standpipe -n {_quoted(condition)} {what} -d {_quoted(sentence)}\n"
            )
    return "".join(lines)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


SCRIPTS: Final[dict[str, Callable[[list[Words]], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}
