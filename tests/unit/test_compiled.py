"""Machine code on disk: found by the next process, never stale."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nestlab.simulate import compiled as module
from nestlab.simulate.compiled import ROOMS

MAIN = """from ..simulate.compiled import compiled
from .inner.helpers import (
    double,
)


@compiled()
def run(x):
    return double(x) + 1
"""
HELPERS = """from numba import njit

from ...simulate import constants as fixed

FACTOR = fixed.FACTOR


@njit
def double(x):
    return FACTOR * x
"""
REPORT = """from toy.fit.main import run
print(run(20), sum(run.stats.cache_misses.values()))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose compiled function uses a helper in another file, which uses a constant in a third."""
    root = tmp_path / "toy"
    for folder in (root, root / "fit", root / "fit" / "inner", root / "simulate"):
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    for name in ("compiled.py", "compiling.py"):
        shutil.copy(Path(str(module.__file__)).with_name(name), root / "simulate" / name)
    (root / "fit" / "main.py").write_text(MAIN)
    (root / "fit" / "inner" / "helpers.py").write_text(HELPERS)
    (root / "simulate" / "constants.py").write_text("FACTOR = 2\n")
    return root


def run(package: Path) -> tuple[str, int]:
    """(what it prints in a new process, how many compilations it had to make)."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {"PYTHONPATH": str(package.parent)}
    printed = subprocess.run(
        [sys.executable, "-c", REPORT], cwd=package.parent, env=environment, capture_output=True, text=True, check=True
    )
    value, misses = printed.stdout.split()
    return value, int(misses)


def edit(file: Path, old: str, new: str) -> None:
    """Change a file but neither its size nor its date, as two wheels with fixed dates may."""
    before = file.stat()
    file.write_text(file.read_text().replace(old, new))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size


@pytest.mark.parametrize(
    ("name", "old", "new", "value"),
    [
        ("fit/main.py", "+ 1", "+ 3", "43"),
        ("fit/inner/helpers.py", "*", "+", "23"),
        ("simulate/constants.py", "2", "4", "81"),
    ],
)
def test_cache_is_used_and_never_stale(package: Path, name: str, old: str, new: str, value: str) -> None:
    assert run(package) == ("41", 1)
    assert run(package) == ("41", 0)
    edit(package / name, old, new)
    assert run(package) == (value, 1)
    edit(package / name, new, old)
    assert run(package) == ("41", 0), "the other version's code is still there"


def test_where_nothing_can_be_written_it_compiles_each_time(package: Path) -> None:
    source = (package / "simulate" / "compiled.py").read_text()
    begins = "        super().__init__(function)"
    broken = source.replace(begins, f"        raise RuntimeError('no locator available')\n{begins}", 1)
    assert broken != source
    (package / "simulate" / "compiled.py").write_text(broken)
    assert [run(package)[0] for _ in range(2)] == ["41", "41"]
    assert not list(package.rglob("*.nbi"))


def test_a_source_that_moves_counts_as_changed(package: Path) -> None:
    assert run(package) == ("41", 1)
    (package / "fit" / "inner" / "__init__.py").rename(package / "simulate" / "more.py")
    assert run(package) == ("41", 1)


def compiled_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """All functions that `compiled` or `njit` decorates, those within other functions included."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            calls = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
            found += [node] * any(isinstance(c, ast.Name) and c.id in ("compiled", "njit") for c in calls)
    return found


def room_of(file: Path, node: ast.ImportFrom) -> str:
    """The room that a relative import is from."""
    above = file.parts[: len(file.parts) - node.level]
    return (*above, *(node.module or "").split("."))[0]


def test_compiled_functions_take_nothing_from_outside_the_digested_rooms() -> None:
    root = Path(str(module.__file__)).parents[1]
    seen = 0
    for file in sorted(root.rglob("*.py")):
        room = file.relative_to(root).parts[0]
        tree = ast.parse(file.read_bytes())
        functions = compiled_functions(tree)
        assert not functions or room in ROOMS, file
        seen += len(functions)
        outside = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level and room_of(file.relative_to(root), node) not in ROOMS
            for alias in node.names
        }
        for function in functions:
            used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            annotations = {
                node.id
                for argument in ast.walk(function)
                if isinstance(argument, ast.arg) and argument.annotation
                for node in ast.walk(argument.annotation)
                if isinstance(node, ast.Name)
            }
            assert not (used - annotations) & outside, (file, function.name)
    assert seen > 20
