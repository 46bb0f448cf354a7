"""The threat model names tests: each is there, and every claim that something cannot be done has one."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)))
# Tables whose first column is headed so hold claims.
CLAIMS = re.compile(r"^\| cannot[^|]*\| shown by \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE)


@cache
def names_in(path: Path) -> set[str]:
    """Every function of a test file, in a class or not."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    assert name in names_in(TESTS / file)


def test_every_claim_names_a_test() -> None:
    tables = CLAIMS.findall(PAGE)
    assert len(tables) == 5, "one for each attacker"
    rows = [row for table in tables for row in table.splitlines()]
    assert [row for row in rows if "::test_" not in row] == []


def test_no_test_is_named_in_another_form() -> None:
    """Else it would go unchecked."""
    assert len(re.findall(r"::test_", PAGE)) == len(re.findall(r"`[\w/]+\.py::test_\w+`", PAGE))
