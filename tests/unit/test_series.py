"""One condition by one method: what is asked for, stored, missing and failed, from parts written by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nestlab.fit.status import Status
from nestlab.run.series import Series
from nestlab.run.store import Store
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Method

METHOD = Method("m", parse_formula("y ~ x + (1 | g)"), max_failed=0.2)


def stored(folder: Path, asked: int, *ranges: tuple[int, int]) -> Series:
    """A series of which the ranges are stored; every replicate from 500 on failed."""
    store = Store(folder)
    store.replicates.mkdir(parents=True)
    series = Series(store, 0, "ab" * 32, METHOD, asked)
    for first, last in ranges:
        replicate = np.arange(first, last)
        status = np.where(replicate < 500, Status.ok, Status.not_converged)
        columns = {
            "block": replicate // 64, "replicate": replicate, "status": status, "singular": status == Status.singular,
            "iterations": np.zeros(last - first, dtype=np.int16), "deviance": np.zeros(last - first),
        }  # fmt: skip
        series.write(columns, [], first, last)
    return series


def test_what_is_missing(tmp_path: Path) -> None:
    series = stored(tmp_path, 300, (0, 100), (150, 200))
    assert (series.gaps, series.missing, series.wanted) == ([(100, 150), (200, 300)], 150, 300)
    assert (series.tally.n, series.tally.statuses, series.tally.lost) == (150, {"ok": 150}, {})
    assert series.columns()["replicate"].tolist() == [*range(100), *range(150, 200)]
    assert series.end is None
    assert series.flag == ""


@pytest.mark.parametrize("cuts", [(0, 1000), (0, 300, 700, 1000), tuple(range(0, 1001, 50))])
def test_it_ends_at_one_place_and_counts_what_it_wants(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    series = stored(tmp_path, 1000, *pairwise(cuts))
    assert series.flag == "ended after 800 of 1,000: 37.5 % failed (max_failed = 0.2)"
    assert (series.wanted, series.missing, series.tally.n) == (800, 0, 800)
    assert series.tally.statuses == {"ok": 500, "not_converged": 300}
    assert series.tally.examples == {"not_converged": [500, 501, 502, 503, 504]}


@pytest.mark.parametrize("cuts", [(0, 1000), (0, 300, 700, 1000)])
def test_a_flag_counts_the_replicates_asked_for(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    """Fewer than are stored: a part that holds more is counted as far as it is asked for."""
    assert stored(tmp_path, 700, *pairwise(cuts)).flag == "28.6 % of 700 failed (max_failed = 0.2)"


def test_without_opening_parts_the_failures_of_a_cut_part_are_known(tmp_path: Path) -> None:
    series = stored(tmp_path, 1000, (0, 400), (400, 1000))
    unopened = Series(series.store, 0, series.result_key, METHOD, 1000, opens=False)
    for part in series.parts:
        (series.store.replicates / part.file).unlink()
    assert unopened.wanted == 800
    assert (unopened.tally.n, unopened.tally.statuses) == (800, {"ok": 400, "not_converged": 300})


def test_what_lies_beyond_an_early_end_is_not_missing(tmp_path: Path) -> None:
    series = stored(tmp_path, 1000, (0, 850))
    assert (series.wanted, series.gaps, series.missing) == (800, [], 0)


def test_a_share_of_failures_at_the_limit_is_no_flag(tmp_path: Path) -> None:
    series = stored(tmp_path, 625, (0, 625))
    assert series.end is None
    assert series.flag == ""
