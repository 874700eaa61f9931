"""`make mutants`: try every mutant, tell which survive, and whether each of those is explained."""

from __future__ import annotations

import argparse
import sys
import time

from tests.mutants.catalogue import all_mutants, tests_of
from tests.mutants.harmless import HARMLESS
from tests.mutants.page import PAGE, page_of
from tests.mutants.runner import NotGreen, Result, run_all


def main() -> int:
    """0: each is caught or explained. 1: one survived, or an explained one was caught."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="those whose name contains this")
    parser.add_argument("--jobs", type=int, default=2, help="tried at the same time")
    parser.add_argument("--list", action="store_true", help="name them, and try none")
    parser.add_argument("--write", action="store_true", help="write docs/mutants.md")
    arguments = parser.parse_args()
    mutants = [mutant for mutant in all_mutants() if arguments.only in mutant.name]
    if arguments.list:
        for mutant in mutants:
            print(mutant.path, "|", mutant.name)
        return 0
    if arguments.write and arguments.only:
        parser.error("the table is written of all of them")
    begun_s = time.monotonic()
    done = 0

    def tell(result: Result) -> None:
        nonlocal done
        done += 1
        fate = result.caught_by or "SURVIVED"
        print(
            f"{done}/{len(mutants)} {fate:70} {result.mutant.path}: {result.mutant.name}",
            flush=True,
        )

    try:
        results = run_all(mutants, tests_of, arguments.jobs, tell)
    except NotGreen as error:
        print(f"{error}\nThe tests fail without any bug.", file=sys.stderr)
        return 1
    survived = {result.mutant.name for result in results if result.caught_by is None}
    caught = {result.mutant.name for result in results} - survived
    unexplained = sorted(survived - HARMLESS.keys())
    wrong = sorted(caught & HARMLESS.keys())
    gone = sorted(HARMLESS.keys() - survived - caught) if not arguments.only else []
    print(f"\n{len(results)} mutants in {time.monotonic() - begun_s:.0f} s: {len(caught)} caught, "
          f"{len(survived)} survived")  # fmt: skip
    for title, names in (
        ("Survived, and nobody says why it changes nothing", unexplained),
        ("Caught, though tests/mutants/harmless.py says that it changes nothing", wrong),
        ("Explained in tests/mutants/harmless.py, and no longer among the mutants", gone),
    ):
        if names:
            print(f"{title}:", *names, sep="\n  ")
    if arguments.write:
        PAGE.write_text(page_of(results))
    return 1 if unexplained or wrong or gone else 0


if __name__ == "__main__":
    sys.exit(main())
