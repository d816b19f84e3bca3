"""Sums of replicates give the measures that the replicates give, however the replicates were cut and in whatever order."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from nestlab.measure.assurance import SPREAD
from nestlab.measure.collect import collect
from nestlab.measure.performance import UNAVAILABLE, Estimates, MethodResults, measure, measure_sums
from nestlab.measure.sums import KINDS, LEAF, Sums, leaf_moments, merge, subtrees
from nestlab.spec.measures import MEASURES, WHOLE

TRUTH = {"x": 0.5, "big": 1e6, "v": 2.0, "two-sided margin": 0.0, "null": 0.0, "joint": math.nan, "own": 0.3}
#: Of a number, or of the scale of what it is a difference of (a mean of 1e6, 100 %).
LIMIT = 1e-10


def part(methods, first, last):
    """Replicates first .. last - 1 of each."""

    def cut(values):
        return values[first:last] if np.ndim(values) else values

    found = []
    for m in methods:
        estimands = {
            name: replace(
                e, **{c: cut(getattr(e, c)) for c in ("estimate", "se", "df", "lower", "upper", "p", "truth")}
            )
            for name, e in m.estimands.items()
        }
        flags = {f: cut(getattr(m, f)) for f in ("converged", "singular", "failed", "inference_failed", "selected")}
        found.append(replace(m, replicate=m.replicate[first:last], estimands=estimands, drawn=None, **flags))
    return found


def made(size, seed, *, holes=True):
    """Two methods on the same data and one that selects; estimands with every kind of test, interval and truth."""
    rng = np.random.default_rng(seed)
    shared, scale = rng.gamma(2.0, 0.3, size), np.exp(rng.normal(0, 0.3, size))
    own = rng.normal(0.3, 0.2, size)
    return [_method(name, rng, shared, scale, own, k, holes) for k, name in enumerate(("a", "b/z", "c"))]


def _method(name, rng, shared, scale, own, k, holes):
    size = len(shared)

    def column(values, share=0.05):
        return np.where(rng.random(size) < share, np.nan, values) if holes and k < 2 else values

    x = shared + 0.2 * k * rng.normal(size=size)
    se, df = 0.3 * scale * (1 + x), rng.uniform(3, 40, size)
    width = rng.exponential(1.0, size)
    if holes and k == 0:
        width = np.where(rng.random(size) < 0.01, 0.0, width)
    estimands = {
        "x": Estimates(column(x), column(se), column(df), null=0.1),
        "big": Estimates(1e6 + column(x), se, np.inf, null=1e6 - 1),
        "v": Estimates(column(x + 1.5), lower=x + 1.5 - width, upper=column(x + 1.5 + 2 * width)),
        "two-sided margin": Estimates(x - 0.5, se / 3, df, equivalence=(-0.9, 0.9)),
        "null": Estimates(x - 0.6, se, df, alternative="greater"),
        "constant": Estimates(np.full(size, 7.25), np.full(size, 0.1), np.inf),
        "joint": Estimates(p=column(rng.random(size) ** 2)),
        "own": Estimates(column(own + x - 0.6), se, df, truth=own),
        "own v": Estimates(column(own + x), lower=own + x - width, upper=own + x + width, truth=own),
    }
    if k == 2:
        del estimands["v"], estimands["constant"]
    failed = rng.random(size) < (0.03 if holes else 0.0)
    converged = ~failed & (rng.random(size) > (0.05 if holes else -1.0))
    return MethodResults(
        name, np.arange(size), converged, converged & (rng.random(size) < 0.2), failed, estimands, alpha=0.1,
        inference_failed=~failed & (rng.random(size) < 0.1) if k else None,
        selected=np.where(failed, np.nan, rng.random(size) < 0.4) if k == 2 else None,
    )  # fmt: skip


def scale_of(row, rows):
    """What a difference of a measure's value is to be seen against."""
    near = {r.measured.measure: abs(r.measured.value) for r in rows if r[:3] == row[:3]}
    percent = {"relbias": 100.0, "relerror": 100.0, "relprec": 100.0}
    truth = abs(TRUTH.get(row.estimand, 1.0)) or 1.0
    of_means = {"bias": near.get("mean", 0.0), "relbias": 100 * near.get("mean", 0.0) / truth}
    name = row.measured.measure
    return max(abs(row.measured.value), percent.get(name, 0.0), of_means.get(name, 0.0))


def assert_same(sums, methods, mcse="distribution-free"):
    """All rows but those that sums do not hold, in the same order."""
    wanted = [r for r in measure(methods, TRUTH, mcse=mcse) if r.measured.measure not in UNAVAILABLE]
    found = measure_sums(sums.total(), TRUTH, mcse=mcse)
    assert [(r[:3], r.measured.measure) for r in found] == [(r[:3], r.measured.measure) for r in wanted]
    for a, b in zip(found, wanted, strict=True):
        where = (b, a)
        assert (a.missing, a.measured.n) == (b.missing, b.measured.n), where
        assert a.measured.successes == b.measured.successes or math.isnan(b.measured.successes), where
        assert_near(a.measured.value, b.measured.value, scale_of(b, wanted), where)
        if (mcse, b.measured.measure, b.measured.n) == ("morris", "relprec", 2):  # two points lie on a line: 0
            assert not max(a.measured.mcse, b.measured.mcse) > 1e-4, where
        else:
            assert_near(a.measured.mcse, b.measured.mcse, abs(b.measured.mcse), where)


def assert_near(mine, its, scale, where):
    if math.isfinite(its):
        assert abs(mine - its) <= LIMIT * scale, where
    else:
        assert not math.isfinite(mine), where


@pytest.mark.parametrize(
    ("size", "mcse"),
    [*((n, "distribution-free") for n in (1, 2, 3, 64, 65, 700)), *((n, "morris") for n in (1, 2, 300))],
)
def test_one_part_gives_the_measures_of_its_replicates(size, mcse):
    methods = made(size, seed=size)
    assert_same(collect(methods, TRUTH), methods, mcse)


@pytest.mark.parametrize("seed", range(6))
def test_parts_in_any_order_give_the_measures_of_all_replicates(seed):
    """Random cuts, most of them not at the ends of leaves, merged in random order and in groups."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(200, 1500))
    methods = made(size, seed=100 + seed, holes=seed % 3 > 0)
    cuts = [0, *sorted(rng.choice(np.arange(1, size), int(rng.integers(1, 12)), replace=False).tolist()), size]
    parts = [collect(part(methods, a, b), TRUTH) for a, b in pairwise(cuts)]
    shuffled = [parts[k] for k in rng.permutation(len(parts))]
    half = len(parts) // 2
    groups = [merge(group) for group in (shuffled[:half], shuffled[half:]) if group]
    assert_same(merge(groups), methods)
    assert bits(merge(groups)) == bits(merge(shuffled))


def bits(sums):
    return {key: values.tobytes() for key, values in sums.total().items()}


@pytest.mark.parametrize("seed", range(3))
def test_cuts_at_leaves_change_no_bit(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(500, 2500))
    methods = made(size, seed=seed)
    whole = collect(methods, TRUTH)
    inner = LEAF * rng.choice(np.arange(1, size // LEAF), min(7, size // LEAF - 1), replace=False)
    cuts = [0, *sorted(inner.tolist()), size]
    parts = [collect(part(methods, a, b), TRUTH) for a, b in pairwise(cuts)]
    merged = merge([parts[k] for k in rng.permutation(len(parts))])
    assert [(n.first, n.last) for n in merged.nodes] == [(n.first, n.last) for n in whole.nodes]
    assert bits(merged) == bits(whole)
    assert len(whole.nodes) <= 2 * math.log2(size)


def test_sums_of_some_methods_are_those_of_all():
    methods = made(300, seed=1)
    whole = collect(methods, TRUTH)
    apart = [whole.of([m.name]) for m in methods]
    together = {key: values for one in apart for key, values in bits(one).items()}
    assert together == bits(whole)


def test_methods_that_hardly_differ_keep_the_digits_of_relprec():
    """A difference of 1e-9 of the spread: what a thousand parts add to it is not rounding of the estimates' fourth powers."""
    rng = np.random.default_rng(3)
    x = 40 + rng.normal(size=4096)
    flags = (np.ones(4096, bool), np.zeros(4096, bool), np.zeros(4096, bool))
    for away in (0.0, 1e-9 * rng.normal(size=4096)):
        methods = [
            MethodResults(name, np.arange(4096), *flags, {"x": Estimates(x + d)})
            for name, d in (("a", 0.0), ("b", away))
        ]
        rows = measure_sums(collect(methods, {}).total(), {}, mcse="distribution-free")
        row = next(r for r in rows if r.measured.measure == "relprec" and r.method == "b")
        e = methods[0].estimands["x"].estimate - methods[1].estimands["x"].estimate
        b = methods[1].estimands["x"].estimate
        d, e = b - b.mean(), e - e.mean()
        more = float((2 * d * e + e * e).sum() / (d * d).sum())
        psi = (2 * d * e + e * e - more * d * d) * 4096 / 4094
        limit = 1e-6  # of numbers that are themselves 1e-9 of what they are differences of
        assert row.measured.value == pytest.approx(100 * more, rel=limit)
        assert row.measured.mcse == pytest.approx(
            100 * math.sqrt((psi**2).sum() / 4096 / 4095) / d.var(ddof=1), rel=limit
        )


def test_every_measure_is_held_or_named_as_not_available():
    """Also a guard: a new measure must be summed, or stand in UNAVAILABLE with its reason."""
    methods = made(400, seed=5)
    held = {r.measured.measure for r in measure_sums(collect(methods, TRUTH).total(), TRUTH, mcse="morris")}
    assert held | set(UNAVAILABLE) == set(MEASURES)
    assert not held & set(UNAVAILABLE)
    assert set(UNAVAILABLE) >= {"median", "becover", *SPREAD}
    assert set(WHOLE) <= held


def test_no_result_at_all_and_infinite_intervals():
    size = 130
    nothing = np.full(size, np.nan)
    none, every = np.zeros(size, bool), np.ones(size, bool)
    x = np.linspace(0, 1, size)
    estimands = {
        "x": Estimates(nothing, nothing, nothing),
        "v": Estimates(x, lower=x - 1, upper=np.where(np.arange(size) == 70, np.inf, x + 1)),
    }
    methods = [MethodResults("a", np.arange(size), none, none, every, {"x": estimands["x"]})]
    assert_same(merge([collect(part(methods, a, b), TRUTH) for a, b in ((0, 64), (64, 130))]), methods)
    methods = [MethodResults("a", np.arange(size), every, none, none, estimands)]
    assert_same(merge([collect(part(methods, a, b), TRUTH) for a, b in ((0, 71), (71, 130))]), methods)


def test_moments_of_every_kind_against_those_of_all_values():
    """Every M_pq after merging, with means that are a million times the spread and parts of unlike means."""
    rng = np.random.default_rng(11)
    size = 10 * LEAF
    drift = np.repeat(rng.normal(0, 3, 10), LEAF)
    x, y = 1e6 + drift + rng.gamma(1.0, 1.0, size), rng.gamma(0.5, 1.0, size) - 2 * drift
    mask = rng.random((10, LEAF)) < 0.8
    d, e = (v[mask.ravel()] - v[mask.ravel()].mean() for v in (x, y))
    for name, kind in KINDS.items():
        if kind.moments:
            leaves = leaf_moments(mask, x.reshape(10, LEAF), y.reshape(10, LEAF), kind)
            total = next(iter(Sums({name: ("k",)}, tuple(subtrees({name: leaves[None]}, 0, size))).total().values()))
            assert total[0] == mask.sum()
            for (p, q), value in zip(kind.moments, total[5:], strict=True):
                assert value == pytest.approx(
                    (d**p * e**q).sum(), rel=1e-10, abs=1e-10 * (abs(d) ** p * abs(e) ** q).sum()
                )


def test_what_cannot_be_merged_is_refused():
    methods = made(200, seed=9)
    a, b = (collect(part(methods, *ends), TRUTH) for ends in ((0, 100), (90, 200)))
    with pytest.raises(ValueError, match="replicates 90 to 99 are summed twice; give each range once"):
        merge([b, a])
    with pytest.raises(ValueError, match="sums of other methods or estimands can't be merged"):
        merge([a, collect(part(methods[:2], 100, 200), TRUTH)])
    with pytest.raises(ValueError, match="mcse is 'best'; allowed are 'distribution-free' and 'morris'"):
        measure_sums(a.total(), TRUTH, mcse="best")
    uneven = [methods[0], replace(part(methods[1:2], 1, 200)[0])]
    with pytest.raises(ValueError, match="methods have different replicates, or some are left out"):
        collect(uneven, TRUTH)
