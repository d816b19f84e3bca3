"""Kill a run while it writes, again and again, and ask whether the results are those of a run that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.testing import assert_frame_equal

import nestlab as nl

STUDY = """
name = "long"
seed = 3
replications = {replications}
[design]
clusters = 40
cluster_size = 5
[grid]
icc = [0.05, 0.1, 0.2, 0.3]
[truth]
formula = "y ~ 1 + arm + (1 | school)"
fixed = {{ Intercept = 2, arm = 0.5 }}
residual_variance = 1
[truth.random.school]
variance = {{ Intercept = 0.2 }}
[predictors.arm]
level = 2
distribution = "balanced"
"""


@dataclass
class Killed:
    """What became of one run: whether a file was half written when it died, seconds that it lived, parts then there."""

    writing: bool
    seconds: float
    parts: int
    finished: bool = False


def command(*words: object) -> list[str]:
    """nestlab as a process."""
    return [sys.executable, "-m", "nestlab", *map(str, words)]


def start(words: Sequence[object], **options: object) -> subprocess.Popen[str]:
    """nestlab in a process group of its own."""
    return subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        **options,  # type: ignore[call-overload]
    )  # fmt: skip


def kill_while_writing(words: Sequence[object], folder: Path, *, new: int, patience: float = 240.0) -> Killed:
    """Start nestlab and kill its process group by SIGKILL while a part is being written, after so many new replicates."""
    replicates = folder / "replicates"
    before = stored(names(replicates)[0])
    began = time.monotonic()
    process = start(words)
    while process.poll() is None and time.monotonic() - began < patience:
        whole, half = names(replicates)
        if stored(whole) >= before + new and half:
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.0005 if stored(whole) >= before + new else 0.01)
    else:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    if process.returncode > 0:
        raise RuntimeError(f"the run ended by itself, with {process.returncode}: {errors}")
    whole, half = names(replicates)
    return Killed(bool(half), time.monotonic() - began, len(whole), process.returncode == 0)


def stored(parts: Sequence[str]) -> int:
    """Replicates in parts, by their names."""
    ranges = (part.removesuffix(".parquet").split("-")[2:] for part in parts)
    return sum(int(last) - int(first) for first, last in ranges)


def names(replicates: Path) -> tuple[list[str], list[str]]:
    """(whole parts, files that are being written)."""
    try:
        found = os.listdir(replicates)
    except FileNotFoundError:
        return [], []
    return [f for f in found if not f.startswith(".")], [f for f in found if f.endswith(".tmp")]


def assert_equal(one: Path, other: Path) -> None:
    """The same replicates and the same summary.parquet, bit for bit."""
    a, b = nl.Results(one), nl.Results(other)
    assert a.missing() == b.missing() == 0
    assert_frame_equal(a.replicates(), b.replicates(), check_exact=True)
    stored = [pd.read_parquet(folder / "summary.parquet") for folder in (one, other)]
    assert_frame_equal(*stored, check_exact=True)
