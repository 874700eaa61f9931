"""Which bugs would chance write? Small changes of the syntax tree, drawn by a fixed seed.

    comparisons turned or shifted · and/or · a lost `not` · swapped branches · a number one higher
    plus/minus · a statement left out

The draw does not depend on how many places there are: each has a number from the seed and its own
text, and the lowest are taken. So a change of the code moves few of them.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from typing import Final, NamedTuple

from tests.mutants.mutant import Mutant, source_of

SEED: Final = "standpipe 2"

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


class _Change(NamedTuple):
    where: str
    node: ast.AST
    new: str


def mutants_of(path: str, count: int) -> list[Mutant]:
    """The `count` mutants of a file that the seed draws."""
    source = source_of(path)
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def offset(line: int, column: int) -> int:
        """Characters before a place that ast gives in lines and bytes."""
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    seen: Counter[str] = Counter()
    found: list[tuple[bytes, Mutant]] = []
    for where, node, new in _changes(tree, ""):
        assert isinstance(node, (ast.expr, ast.stmt))
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = offset(node.lineno, node.col_offset)
        old = source[start : offset(node.end_lineno, node.end_col_offset)]
        name = f"{path} {where}: {_short(old)} → {_short(new)}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" ({seen[name]})"
        mutant = Mutant(name, path, start, old, new, tool=True)
        found.append((sha256(f"{SEED} {name}".encode()).digest(), mutant))
    # In the order of the draw, so that only those are compiled that may be taken.
    before = ast.dump(tree)
    drawn = (mutant for _, mutant in sorted(found) if _is_change(before, mutant, source))
    return list(islice(drawn, count))


def _short(text: str) -> str:
    """One line of a text, for a name."""
    text = " ".join(text.split())
    return text if len(text) <= 90 else text[:87] + "..."


def _is_change(before: str, mutant: Mutant, source: str) -> bool:
    """Whether it compiles, and to something else. before: the tree of `source`."""
    try:
        return ast.dump(ast.parse(mutant.applied_to(source))) != before
    except SyntaxError:
        return False


def _changes(node: ast.AST, where: str) -> Iterator[_Change]:
    """Every small change below a node; `where` names the function it stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(
            child, (ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.arguments)
        ):
            continue
        if isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
            name = f"{where}.{child.name}" if where else child.name
            # Decorators, arguments and annotations are left alone.
            yield from _changes(ast.Module(child.body, []), name)
            continue
        if _is_passive(child):
            continue
        for changed in _of(child):
            yield _Change(where or "module", child, changed)
        if isinstance(child, (ast.If, ast.IfExp, ast.While)) and isinstance(
            child.test, (ast.Call, ast.Name, ast.Attribute)
        ):
            # Comparisons and their like are turned where they are met themselves.
            yield _Change(where or "module", child.test, f"(not {ast.unparse(child.test)})")
        yield from _changes(child, where)


def _is_passive(node: ast.AST) -> bool:
    """Docstrings, slots, what only type checkers read, and constants that only name things."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Assign) and "__slots__" in ast.dump(node):
        return True
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return True
    # An annotation says nothing at run time; its value is met as a child of its own.
    return isinstance(node, ast.AnnAssign) and node.value is None


def _is_done_for_its_effect(node: ast.AST) -> bool:
    """Whether it is a statement that can be left out, so that no name is missing afterwards."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], (ast.Attribute, ast.Subscript))
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    return isinstance(node, (ast.AugAssign, ast.Continue, ast.Break, ast.Delete))


def _adds(node: ast.BinOp) -> bool:
    """Whether it adds numbers, as far as one can see: strings joined would only raise an error."""
    text = any(
        isinstance(part, ast.Call)
        or (isinstance(part, ast.Constant) and type(part.value) is not int)
        for part in ast.walk(node)
    )
    return not text


def _of(node: ast.AST) -> Iterator[str]:
    """The texts that may stand in place of a node."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            ops = [*node.ops]
            ops[i] = _COMPARISONS[type(op)]()
            yield f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"({ast.unparse(ast.BoolOp(other, node.values))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)) and _adds(node):
        other_op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield f"({ast.unparse(ast.BinOp(node.left, other_op, node.right))})"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield repr(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield repr(node.value + 1)
    elif _is_done_for_its_effect(node):
        yield "pass"
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
        # What a function would have told is swallowed.
        yield "return None"
