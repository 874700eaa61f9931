"""The rules of the specification, each held by tests that are named after it.

Written from the rules, not from the code: what passes and what is dropped is said here by what
an account or a host did. docs/spec.md lists every rule with its tests, or why it has none.
"""
