"""Machine code on disk: found by the next process, never stale."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nestlab.simulate import compiled as module
from nestlab.simulate.compiled import source_digest

MAIN = """from .compiled import compiled
from .inner.helpers import (
    double,
)


@compiled()
def run(x):
    return double(x) + 1
"""
HELPERS = """from numba import njit

from .. import constants as fixed

FACTOR = fixed.FACTOR


@njit
def double(x):
    return FACTOR * x
"""
REPORT = """from toy.main import run
print(run(20), sum(run.stats.cache_misses.values()))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose compiled function uses a helper in another file, which uses a constant in a third."""
    root = tmp_path / "toy"
    (root / "inner").mkdir(parents=True)
    for folder in (root, root / "inner"):
        (folder / "__init__.py").write_text("")
    shutil.copy(str(module.__file__), root / "compiled.py")
    (root / "main.py").write_text(MAIN)
    (root / "inner" / "helpers.py").write_text(HELPERS)
    (root / "constants.py").write_text("FACTOR = 2\n")
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
    [("main.py", "+ 1", "+ 3", "43"), ("inner/helpers.py", "*", "+", "23"), ("constants.py", "2", "4", "81")],
)
def test_cache_is_used_and_never_stale(package: Path, name: str, old: str, new: str, value: str) -> None:
    assert run(package) == ("41", 1)
    assert run(package) == ("41", 0)
    edit(package / name, old, new)
    assert run(package) == (value, 1)
    edit(package / name, new, old)
    assert run(package) == ("41", 0), "the other version's code is still there"


def test_where_nothing_can_be_written_it_compiles_each_time(package: Path) -> None:
    source = (package / "compiled.py").read_text()
    begins = "        super().__init__(function)"
    broken = source.replace(begins, f"        raise RuntimeError('no locator available')\n{begins}", 1)
    assert broken != source
    (package / "compiled.py").write_text(broken)
    assert [run(package)[0] for _ in range(2)] == ["41", "41"]
    assert not list(package.rglob("*.nbi"))


def test_kernel_digest_covers_all_of_its_helpers() -> None:
    from nestlab.fit import kernel

    folder = Path(str(kernel.__file__)).parent
    names = {path.name for path in module._closure(folder / "kernel.py")}
    assert names >= {"kernel.py", "lanes.py", "passes.py", "reduce.py", "search.py", "small.py", "status.py"}
    assert len(source_digest(folder / "kernel.py")) == 64
