"""No class name stands twice in the package: a name says what it is wherever it is met."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import nestlab

PACKAGE = Path(nestlab.__file__).parent


def test_no_class_name_stands_twice() -> None:
    found = Counter(
        node.name.lstrip("_")
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert len(found) > 200
    assert {name for name, count in found.items() if count > 1} == set()
