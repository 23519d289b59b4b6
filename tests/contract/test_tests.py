"""What is asked of the tests themselves."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]


def _functions() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((f"{path.relative_to(TESTS)}:{node.name}", node))
    return found


def test_each_test_says_in_one_sentence_what_it_proves() -> None:
    """A failing test's docstring is the first thing its reader sees."""
    wordless = [
        name
        for name, node in _functions()
        if node.name.startswith("test_") and not (ast.get_docstring(node) or "").endswith(".")
    ]
    assert wordless == []


def test_no_test_sleeps() -> None:
    """Tests wait for conditions; a sleep is either too long or too short."""
    sleepers = []
    for name, node in _functions():
        if node.name.startswith("until"):
            continue  # polls a condition
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in {
                "time.sleep",
                "asyncio.sleep",
            }:
                seconds = ast.unparse(call.args[0])
                if seconds != "0":
                    sleepers.append(f"{name}: sleep({seconds})")
    assert sleepers == []
