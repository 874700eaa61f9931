"""Do the tests see a small bug? Each is put into a copy of the tree, one at a time.

    by_hand ──┐
              ├─▶ runner: copy, one bug, the quick tests of that module ─▶ caught by …, or survived
    by_tool ──┘                                                            └─▶ harmless: why

`make mutants` runs them all and fails when one survives that `harmless` does not explain;
`make mutants ARGS=--write` also writes the table of docs/mutants.md.
"""
