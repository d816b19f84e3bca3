"""Pictures of real small studies: what they hold is what the summary holds, and nothing lies on anything else."""

from __future__ import annotations

import copy
import math
import shutil
import threading
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from PIL import Image

import nestlab as nl
from nestlab.show import plots
from nestlab.show.plots.choose import Asked, Dimension, select
from nestlab.show.plots.replicates import choose, samples
from nestlab.show.plots.roles import MOST_PANELS, arranged, assign
from nestlab.show.plots.zip import rank_key

STUDY: dict[str, Any] = {
    "name": "pictures",
    "seed": 8,
    "replications": 60,
    "design": {"clusters": 8, "cluster_size": 5},
    "truth": {
        "formula": "y ~ 1 + arm + (1 | school)",
        "fixed": {"Intercept": 2, "arm": 0.5},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2}}},
    },
    "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
}
RULES = ["z", "satterthwaite", "between-within", "residual"]


def run(folder: Path, name: str, **changes: Any) -> nl.Results:
    return nl.Study.from_dict(copy.deepcopy(STUDY) | {"name": name} | changes).run(out=folder / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def one(folder: Path) -> nl.Results:
    """No factors, one method."""
    return run(folder, "one")


@pytest.fixture(scope="module")
def grid(folder: Path) -> nl.Results:
    """12 conditions, two rules of degrees of freedom; true effects null in half of them."""
    axes = {"clusters": [6, 10, 24], "icc": [0.05, 0.3], "truth.fixed.arm": [0.0, 0.8]}
    return run(folder, "grid", grid=axes, method=[{"name": "reml", "df": ["z", "satterthwaite"]}])


@pytest.fixture(scope="module")
def ten(folder: Path) -> nl.Results:
    """Ten methods, one of them without estimates' tests of its own, and a factor of lists."""
    sizes = [5, [2, 2, 2, 2, 8, 8, 8, 8], [1, 1, 1, 1, 1, 1, 1, 33]]
    methods = [
        {"name": "reml", "df": [*RULES, "kenward-roger"]},
        {"name": "ml", "reml": False, "df": RULES},
        {"name": "lrt", "reml": False, "compare": "y ~ 1 + (1 | school)"},
    ]
    return run(folder, "ten", grid={"cluster_size": sizes}, method=methods, replications=40)


@pytest.fixture(scope="module")
def many(folder: Path) -> nl.Results:
    """500 conditions of four factors."""
    axes = {
        "clusters": [4, 6, 8, 12, 20], "cluster_size": [2, 4, 6, 8, 10], "icc": [0.02, 0.05, 0.1, 0.2, 0.4],
        "truth.fixed.arm": [0.0, 0.3, 0.6, 0.9],
    }  # fmt: skip
    return run(folder, "many", grid=axes, replications=6)


@pytest.fixture(scope="module")
def lists(folder: Path) -> nl.Results:
    """90 levels of one factor, lists all of them."""
    sizes = [[a, b, 4, 4] for a in range(2, 12) for b in range(2, 11)]
    return run(folder, "lists", design={"clusters": 4, "cluster_size": 5}, grid={"cluster_size": sizes}, replications=6)


def rows_of(results: nl.Results, measure: str, **wanted: Any) -> pd.DataFrame:
    summary = results.summary()
    rows = summary[(summary["measure"] == measure) & (summary["subset"] == "all")]
    for column, value in wanted.items():
        rows = rows[rows[column.replace("__", ".")] == value]
    return rows


def messy(figure: Figure) -> list[str]:
    """What is off the page, or lies on something else, by the boxes of the renderer."""
    figure.canvas.draw()
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]

    def meet(a: Any, b: Any) -> bool:
        return bool(a.x0 < b.x1 - 0.5 and b.x0 < a.x1 - 0.5 and a.y0 < b.y1 - 0.5 and b.y0 < a.y1 - 0.5)

    whole = [(f"axes {k}", ax.get_tightbbox(renderer)) for k, ax in enumerate(figure.get_axes())]
    whole += [(f"legend {k}", legend.get_window_extent(renderer)) for k, legend in enumerate(figure.legends)]
    whole += [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    found = [f"{n} on {m}" for (n, a), (m, b) in combinations(whole, 2) if meet(a, b)]
    page = figure.bbox.padded(1)
    found += [
        f"{n} off the page"
        for n, b in whole
        if not page.x0 <= b.x0 <= b.x1 <= page.x1 or b.y0 < page.y0 or b.y1 > page.y1
    ]
    for k, ax in enumerate(figure.get_axes()):
        assert min(ax.get_window_extent(renderer).size) > 5, f"axes {k} are crushed"
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            labels = [t.label1 for t in ticks if t.label1.get_visible() and t.label1.get_text()]
            boxes = [t.get_window_extent(renderer) for t in labels]
            found += [f"tick {k} of axes" for k, (a, b) in enumerate(pairwise(boxes)) if meet(a, b)]
    return found


def caption(figure: Figure) -> str:
    return " ".join(figure.texts[-1].get_text().split())


def title(figure: Figure) -> str:
    return str(figure.texts[0].get_text())


@pytest.mark.parametrize("name", ["one", "grid", "ten", "lists", "many"])
def test_every_applicable_kind_is_tidy(name: str, request: pytest.FixtureRequest) -> None:
    results = request.getfixturevalue(name)
    kinds = plots.applicable(results)
    assert len(kinds) >= 8
    same = {"coverage", "bias", "measure"}  # drawn as power is, which has the legends of all
    skipped = same | {"zip", "estimate-se", "convergence"} if name in ("many", "lists") else same
    for kind in [k for k in kinds if k not in skipped or name == "one"]:
        figure = plots.draw(results, kind)
        assert messy(figure) == [], kind
        assert title(figure), kind


def test_applicable(one: nl.Results, grid: nl.Results, ten: nl.Results) -> None:
    assert set(plots.KINDS) - set(plots.applicable(grid)) == {"solve"}
    assert set(plots.KINDS) - set(plots.applicable(one)) == {"solve", "heatmap", "nested-loop", "methods"}
    assert set(plots.KINDS) - set(plots.applicable(ten)) == {"solve", "heatmap", "nested-loop"}


def test_lines_are_the_summary(grid: nl.Results) -> None:
    axes = grid.plot.power(x="clusters", color="icc", facet="truth.fixed.arm")
    assert axes.shape == (1, 2)
    names = [line.get_label() for line in axes[0, 0].get_lines() if not str(line.get_label()).startswith("_")]
    assert names == [f"icc {icc}, reml/{rule}" for icc in (0.05, 0.3) for rule in ("z", "satterthwaite")]
    for ax, effect in zip(axes[0], (0.0, 0.8), strict=True):
        assert ax.get_title(loc="left") == f"true arm {effect:g}"
        assert ax.get_xlabel() == "Number of schools"
        lines = {line.get_label(): line for line in ax.get_lines()}
        bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
        for k, (icc, rule) in enumerate((i, r) for i in (0.05, 0.3) for r in ("z", "satterthwaite")):
            rows = rows_of(grid, "power", estimand="arm", method=f"reml/{rule}", icc=icc, truth__fixed__arm=effect)
            np.testing.assert_array_equal(lines[f"icc {icc}, reml/{rule}"].get_xdata(), rows["clusters"])
            np.testing.assert_array_equal(lines[f"icc {icc}, reml/{rule}"].get_ydata(), rows["value"])
            inside = bands[k].get_paths()[0].vertices
            for x, low, high in zip(rows["clusters"], rows["lower"], rows["upper"], strict=True):
                np.testing.assert_allclose(sorted({*inside[inside[:, 0] == x][:, 1]}), [low, high], rtol=1e-12)
    assert axes[0, 0].get_ylabel() == "power"
    marks = [line.get_ydata()[0] for line in axes[0, 0].get_lines() if str(line.get_label()).startswith("_")]
    assert marks == [0.8, 0.05]


def test_bias_has_bands_of_mcse(grid: nl.Results) -> None:
    ax = grid.plot.bias(method="reml/z", condition=None, color="icc", facet="truth.fixed.arm")[0, 1]
    rows = rows_of(grid, "bias", estimand="arm", method="reml/z", icc=0.3, truth__fixed__arm=0.8)
    inside = ax.collections[1].get_paths()[0].vertices
    for x, value, mcse in zip(rows["clusters"], rows["value"], rows["mcse"], strict=True):
        ends = sorted({*inside[inside[:, 0] == x][:, 1]})
        np.testing.assert_allclose(ends, [value - 1.96 * mcse, value + 1.96 * mcse], rtol=1e-12)
    assert "value ± 1.96 MCSE" in caption(ax.figure)


def test_legend_is_complete_and_beside_the_data(grid: nl.Results, ten: nl.Results) -> None:
    figure = plots.draw(grid, "power", color="icc", facet="method")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        f"icc {icc:g}, true arm {effect:g}" for icc in (0.05, 0.3) for effect in (0, 0.8)
    ]
    figure = plots.draw(ten, "power")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(
        rows_of(ten, "power", estimand="arm")["method"].unique()
    )


def test_nothing_is_averaged_over(many: nl.Results) -> None:
    figure = plots.draw(many, "power")
    drawn = [
        (line.get_xdata(), line.get_ydata())
        for ax in figure.get_axes()
        for line in ax.get_lines()
        if not str(line.get_label()).startswith("_")
    ]
    values = np.concatenate([y for _, y in drawn])
    assert len(figure.get_axes()) == 20
    assert len(values) == 500
    np.testing.assert_array_equal(np.sort(values), np.sort(rows_of(many, "power", estimand="arm")["value"]))


def test_caption_says_what_was_counted(grid: nl.Results, folder: Path) -> None:
    text = caption(plots.draw(grid, "power"))
    assert "n = 60 replicates a point (60 asked for)" in text
    assert "Wilson's 95 % limits" in text
    assert "Dotted: 0.05, 0.8" in text
    assert "Where the true effect is null, power is the type I error rate" in text
    shutil.copytree(folder / "grid", folder / "cut")
    sorted((folder / "cut" / "replicates").glob("*.parquet"))[0].unlink()
    whole = nl.Study.from_toml(folder / "grid" / "study.toml", replications=80)
    shutil.copytree(folder / "grid", folder / "more")
    whole.run(out=folder / "more")
    sorted((folder / "more" / "replicates").glob("c00003*0080.parquet"))[0].unlink()
    cut, more = nl.Results(folder / "cut"), nl.Results(folder / "more")
    assert cut.missing() == 60
    assert "n = 60 to 80 replicates a point (80 asked for)" in caption(plots.draw(more, "power"))
    for kind in ("power", "nested-loop", "lollipop", "zip"):
        assert messy(plots.draw(cut, kind)) == [], kind


def test_missing_results_are_counted(grid: nl.Results, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = grid.summary()
    summary["missing"] = summary["missing"].astype("Int64")
    chosen = (summary["measure"] == "power") & (summary["condition"] == 2)
    summary.loc[chosen, ["n", "missing"]] = [53, 7]
    gone = (summary["measure"] == "power") & (summary["condition"] == 4)
    summary.loc[gone, ["value", "mcse", "lower", "upper"]] = np.nan
    monkeypatch.setattr(nl.Results, "summary", lambda _: summary)
    text = caption(plots.draw(grid, "power"))
    assert "n = 53 to 60 replicates a point (60 asked for), up to 7 more without a result; 2 have no value" in text


def test_a_study_of_true_nulls_is_of_type_one_errors(folder: Path) -> None:
    tables = copy.deepcopy(STUDY)
    tables["truth"]["fixed"]["arm"] = 0.0
    results = nl.Study.from_dict(tables | {"grid": {"clusters": [6, 10, 20]}, "name": "null"}).run(out=folder / "null")
    figure = plots.draw(results, "power")
    (ax,) = figure.get_axes()
    assert title(figure) == "Type I error rate of arm"
    assert ax.get_ylabel() == "type I error rate of arm"
    assert "Dotted: 0.05. " in caption(figure)
    assert ax.get_ylim()[1] < 0.6, "the axis is that of the values"


def test_shades_where_a_factor_has_many_levels(folder: Path) -> None:
    axes = {"clusters": list(range(4, 30, 2)), "icc": [round(0.02 * k, 2) for k in range(10)]}
    results = run(folder, "shades", grid=axes, replications=4)
    figure = plots.draw(results, "power")
    assert figure.legends[0].get_title().get_text() == "icc (10 levels, from dark to light)"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["0", "0.04", "0.08", "0.14", "0.18"]
    assert "10 lines a panel, too many for bands: MCSE at most" in caption(figure)
    assert messy(figure) == []


def test_lists_are_named_whole_or_thinned(ten: nl.Results, lists: nl.Results) -> None:
    figure = plots.draw(ten, "power", method="reml/z")
    labels = [t.get_text() for t in figure.get_axes()[0].get_xticklabels()]
    assert labels == ["5", "[2, 2, 2, 2, ...] of 8", "[1, 1, 1, 1, ...] of 8"]
    figure = plots.draw(lists, "power")
    labels = [t.get_text() for t in figure.get_axes()[0].get_xticklabels()]
    assert labels[0] == "[2, 2, 4, 4]"
    assert f"One in {90 // len(labels)} levels of cluster size is named" in caption(figure)


def test_nested_loop_steps(grid: nl.Results) -> None:
    ax = grid.plot.nested_loop(x="clusters", method="reml/z", measure="cover")
    steps = [p for p in ax.patches if p.get_data().baseline is None]
    rows = rows_of(grid, "cover", estimand="arm", method="reml/z")
    order = ["truth.fixed.arm", "icc", "clusters"]
    means = {f: rows.groupby(f)["value"].mean().std() for f in order[:2]}
    order[:2] = sorted(order[:2], key=lambda f: -means[f])
    wanted = rows.sort_values(order)
    np.testing.assert_array_equal(steps[0].get_data().values, wanted["value"])
    assert len(steps) == 1 + 3, "the measure, and a strip a factor"
    strip = steps[3].get_data().values
    assert len(set(strip[:3])) == 3, "clusters change fastest"
    assert [t.get_text().split(":")[0] for t in ax.texts][-1] == "clusters"
    assert "12 conditions, by" in ax.get_xlabel()


def test_lollipop_shows_value_and_mcse(grid: nl.Results) -> None:
    ax = grid.plot.lollipop(measure="bias", method="reml/z")
    rows = rows_of(grid, "bias", estimand="arm", method="reml/z")
    dots = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "o"]
    np.testing.assert_array_equal(dots, rows["value"])
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == [
        "clusters 6, icc 0.05, true arm 0", "clusters 6, icc 0.05, true arm 0.8",
    ]  # fmt: skip
    assert ax.texts[0].get_text() == nl.show.summary.value_with_mcse(rows["value"].iloc[0], rows["mcse"].iloc[0])


def test_lollipop_says_what_was_left_out(many: nl.Results) -> None:
    figure = plots.draw(many, "lollipop", measure="bias")
    (ax,) = figure.get_axes()
    rows = rows_of(many, "bias", estimand="arm").sort_values("value")
    dots = np.array([line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "o"])
    half = len(dots) // 2
    np.testing.assert_allclose(dots, np.concatenate([rows["value"][:half], rows["value"][-half:]]))
    left = rows["value"].iloc[half:-half]
    text = f"The {half} lowest and {half} highest of 500 conditions; the others lie between {left.min():.4g} and {left.max():.4g}"
    assert text in caption(figure)
    assert f"... {500 - 2 * half} left out" in [t.get_text() for t in ax.get_yticklabels()]


def test_zip_is_the_coverage(grid: nl.Results) -> None:
    for subset in ("all", "common", "converged"):
        chosen = choose(grid, Asked(condition=5, subset=subset), measure="cover")
        for sample in samples(grid, chosen):
            row = chosen.rows.frame.set_index("method").loc[sample.method]
            hits = (sample.lower <= chosen.truth) & (chosen.truth <= sample.upper)
            assert hits.mean() == pytest.approx(row["value"])
            assert len(hits) == row["n"]
    assert caption(plots.draw(grid, "zip", condition=5)).startswith("Condition 5: clusters ")
    axes = grid.plot.zip(condition=5)
    row = rows_of(grid, "cover", estimand="arm", condition=5, method="reml/z").iloc[0]
    hit, miss = (c for c in axes[0, 0].collections if isinstance(c, LineCollection))
    assert len(hit.get_segments()) == round(row["value"] * 60)
    assert len(miss.get_segments()) == 60 - round(row["value"] * 60)
    assert min(s[0][1] for s in miss.get_segments()) > 70, "those that miss are at the top"
    levels = [line.get_ydata()[0] for line in axes[0, 0].get_lines() if line.get_ydata()[0] == line.get_ydata()[1]]
    np.testing.assert_allclose(levels, [100 * row["lower"], 100 * row["upper"], 95])


def test_where_truths_are_drawn_zip_is_the_coverage_of_each_replicate_s_own(folder: Path) -> None:
    results = run(
        folder, "drawn", prior={"truth.fixed.arm": {"distribution": "normal", "mean": 0.5, "sd": 1}},
        contrast=[{"name": "twice", "weights": {"arm": 2}}],
    )  # fmt: skip
    for estimand in ("arm", "twice"):
        covered = rows_of(results, "cover", estimand=estimand).iloc[0]["value"]
        hit, _ = (c for c in results.plot.zip(estimand=estimand).collections if isinstance(c, LineCollection))
        assert len(hit.get_segments()) == round(covered * 60)
        assert "White line: the true values, which replicates draw from a prior." in caption(
            plots.draw(results, "zip", estimand=estimand)
        )
    ax = results.plot.estimate_se(estimand="arm")
    assert ax.get_xlabel() == "estimate of arm - its truth"
    spread = np.std(np.concatenate([line.get_xdata() for line in ax.get_lines()[:2]]), ddof=1)
    assert spread == pytest.approx(rows_of(results, "empse", estimand="arm").iloc[0]["value"])


def test_names_that_are_too_long_for_a_panel_break_at_their_marks(folder: Path) -> None:
    name = "a_model_with_intercepts_and_without_any_slopes_whose_name_is_long"
    methods = [{"name": f"{name}_{k}", "df": ["satterthwaite", "between-within"]} for k in (1, 2)]
    results = run(folder, "long", method=methods, grid={"clusters": [8, 10], "icc": [0.1, 0.2]})
    figure = plots.draw(results, "power", facet="method")
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes]
    broken = [text for text in titles if "\n" in text]
    assert broken
    assert all(line[-1] in "/_-" for text in broken for line in text.splitlines()[:-1])
    assert messy(figure) == []


def test_an_axis_label_is_no_longer_than_its_panel(many: nl.Results) -> None:
    figure = plots.draw(many, "measure", measure="relerror")
    figure.canvas.draw()
    for ax in figure.axes:
        if ax.get_ylabel():
            assert ax.yaxis.label.get_window_extent().height <= 1.1 * ax.get_window_extent().height
    assert messy(figure) == []


def test_zip_takes_the_worst_condition_and_says_so(grid: nl.Results) -> None:
    rows = rows_of(grid, "cover", estimand="arm", method="reml/z")
    worst = rows.loc[(rows["value"] - 0.95).abs().idxmax(), "condition"]
    text = caption(plots.draw(grid, "zip"))
    assert text.startswith(f"Condition {worst}: ")
    assert "Of 12 conditions the one whose coverage is farthest from 0.95" in text


def test_zip_of_profile_intervals(folder: Path) -> None:
    results = run(folder, "profile", method=[{"name": "reml", "variance_intervals": "profile"}])
    name = "var:school:Intercept"
    chosen = choose(results, Asked(estimand=name), measure="cover")
    (sample,) = samples(results, chosen)
    hits = (sample.lower <= chosen.truth) & (chosen.truth <= sample.upper)
    assert hits.mean() == pytest.approx(rows_of(results, "cover", estimand=name)["value"].iloc[0])
    key = rank_key(sample, chosen.truth)
    assert key[hits].max() <= 1 < key[~hits].min(initial=np.inf), "limits are not symmetric: the rank is in arms"
    assert messy(plots.draw(results, "zip", estimand=name)) == []


def test_heatmap_cells(grid: nl.Results) -> None:
    axes = grid.plot.heatmap(x="clusters", color="icc", method="reml/z", measure="bias")
    rows = rows_of(grid, "bias", estimand="arm", method="reml/z", truth__fixed__arm=0.8)
    table = rows.pivot(index="icc", columns="clusters", values="value")
    shown = axes[0, 1].get_images()[0].get_array()
    np.testing.assert_array_equal(shown, table)
    texts = [t.get_text() for t in axes[0, 1].texts]
    every = rows_of(grid, "bias", estimand="arm", method="reml/z")
    digits = -math.floor(math.log10(every["mcse"].max()))
    assert texts[0] == f"{rows['value'].iloc[0]:.{digits}f}\n({rows['mcse'].iloc[0]:.{digits}f})"
    low, high = axes[0, 1].get_images()[0].get_clim()
    assert low == -high, "two-sided about 0"


def test_estimate_se_points(grid: nl.Results) -> None:
    ax = grid.plot.estimate_se(condition=2)
    frame = grid.replicates(2)
    dots = [line for line in ax.get_lines() if line.get_marker() in ("o", "x")]
    x = np.concatenate([d.get_xdata() for d in dots])
    np.testing.assert_array_equal(np.sort(x), np.sort(frame["estimate.arm"]))
    assert len(dots[1].get_xdata()) == frame["singular"].sum()
    assert ax.get_title(loc="left").replace("\n", " ").startswith("reml/z, reml/satterthwaite: empirical SE"), (
        "the same data once"
    )
    levels = [line.get_ydata()[0] for line in ax.get_lines()[-2:]]
    wanted = [
        rows_of(grid, m, estimand="arm", condition=2, method="reml/z")["value"].iloc[0] for m in ("empse", "modelse")
    ]
    np.testing.assert_allclose(levels, wanted)


def test_convergence_rates(grid: nl.Results) -> None:
    axes = grid.plot.convergence(method="reml/z", color="icc", facet="truth.fixed.arm")
    assert [ax.get_title(loc="left") for ax in axes.flat] == [
        f"{m}, true arm {e}" for m in ("singular", "converged") for e in ("0", "0.8")
    ]
    rows = rows_of(grid, "singular", method="reml/z", icc=0.05, truth__fixed__arm=0.0)
    np.testing.assert_array_equal(axes[0, 0].get_lines()[0].get_ydata(), rows["value"])
    assert "All fits converged" in caption(axes[0, 0].figure)


def test_methods_side_by_side_point_to_their_differences(ten: nl.Results, many: nl.Results) -> None:
    figure = plots.draw(ten, "methods")
    said = [t.get_text().replace("\n", " ") for t in figure.texts]
    assert any("those of differences on the same data: nestlab compare" in text for text in said)
    alone = plots.draw(ten, "methods", method="lrt")
    assert not any("nestlab compare" in t.get_text().replace("\n", " ") for t in alone.texts)
    assert [ax.get_title(loc="left") for ax in figure.get_axes()] == ["power", "coverage", "bias", "empirical SE"]
    assert len(figure.legends[0].get_texts()) == 10
    assert title(plots.draw(ten, "methods", measure="width")) == "Methods: mean interval width of arm"


def test_roles_by_choice(many: nl.Results) -> None:
    rows = select(many, Asked())
    roles = assign(rows, Asked())
    assert (roles.x.name, roles.color and roles.color.name) == ("clusters", "cluster_size")
    assert [d.name for d in (*roles.lines, *roles.facets)] == ["icc", "truth.fixed.arm"]
    roles = assign(rows, Asked(x="icc", facet="clusters"))
    assert roles.facets[0].name == "clusters"


def test_too_many_panels_become_lines_and_nothing_is_left_out(many: nl.Results) -> None:
    figure = plots.draw(many, "power", x="method", color="clusters")
    axes = figure.get_axes()
    assert len(axes) == 25 <= MOST_PANELS, "4 further levels are lines"
    heights = [bar.get_segments()[0][:, 1] for ax in axes for bar in ax.collections]
    assert len(heights) == 500
    rows = rows_of(many, "power", estimand="arm")
    np.testing.assert_allclose(sorted(map(min, heights)), np.sort(rows["lower"]))
    convergence = plots.draw(many, "convergence")
    titles = [ax.get_title(loc="left") for ax in convergence.get_axes()]
    assert {t.split(",")[0] for t in titles} == {"singular", "converged"}
    drawn = [
        len(line.get_ydata()) for ax in convergence.get_axes() for line in ax.get_lines() if line.get_label()[0] != "_"
    ]
    assert sum(drawn) == 2 * 500


def test_several_rules_make_a_grid_of_methods_by_factor(folder: Path) -> None:
    cases = [
        {"clusters": c, "icc": i, "truth.fixed.arm": e}
        for c in (8, 12)
        for i in (0.1, 0.2, 0.3)
        for e in (0.2, 0.5, 0.8)
    ]
    cases = [case for case in cases if (case["icc"], case["truth.fixed.arm"]) != (0.2, 0.8)]
    rules = {"name": "reml", "df": ["z", "satterthwaite"]}
    results = run(folder, "rules", grid={"cases": cases}, method=[rules], replications=10)
    axes = results.plot.heatmap(x="clusters", color="icc")
    assert axes.shape == (3, 2)
    for i, effect in enumerate(("0.2", "0.5", "0.8")):
        for j, rule in enumerate(("z", "satterthwaite")):
            assert axes[i, j].get_title(loc="left") == f"true arm {effect}, reml/{rule}"
    assert messy(axes[0, 0].figure) == []


def test_a_grid_of_panels_has_empty_places() -> None:
    frame = pd.DataFrame({"a": [1, 1, 2, 3], "b": ["u", "v", "u", "v"]})
    a = Dimension("a", "a", (1, 2, 3), ("1", "2", "3"), numeric=True)
    b = Dimension("b", "b", ("u", "v"), ("u", "v"), numeric=False)
    assert arranged(frame, [a, b]) == ([(1, "u"), (1, "v"), (2, "u"), None, None, (3, "v")], 2)
    assert arranged(frame, [a]) == ([(1,), (2,), (3,)], 3)
    assert arranged(frame, []) == ([()], 1)


def test_each_line_joins_its_own_points(folder: Path) -> None:
    """As after a search: no two lines are at the same numbers of clusters."""
    cases = [{"icc": i, "clusters": c} for i, at in ((0.05, (8, 14, 20)), (0.3, (6, 10, 24))) for c in at[::-1]]
    results = run(folder, "searched", grid={"cases": cases}, replications=10)
    ax = results.plot.power(x="clusters", color="icc")
    lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    for line, icc, at in zip(lines, (0.05, 0.3), ((8, 14, 20), (6, 10, 24)), strict=True):
        rows = rows_of(results, "power", estimand="arm", icc=icc).sort_values("clusters")
        assert list(line.get_xdata()) == list(at)
        np.testing.assert_array_equal(line.get_ydata(), rows["value"])
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert [len(c.get_paths()) for c in bands] == [1, 1], "one piece each"
    assert messy(ax.figure) == []


@pytest.mark.parametrize(
    ("kind", "asked", "line"),
    [
        ("powr", {}, 'kind = "powr": the kinds are solve, power, coverage, .*; did you mean "power"'),
        ("power", {"x": "clutsers"}, 'x = "clutsers": the results vary by clusters, .*, method; did you mean "clusters"'),
        ("power", {"color": "icc", "facet": "icc"}, '(color|facet) = "icc": stands for (color|facet) already; choose another of'),
        ("power", {"measure": "bias"}, 'measure = "bias": kind power shows power; use kind "measure"'),
        ("measure", {"measure": "pwer"}, 'measure = "pwer": the results have .*; did you mean "power"'),
        ("power", {"estimand": "amr"}, 'estimand = "amr": the results have .*; did you mean "arm"'),
        ("power", {"estimand": "icc"}, 'estimand = "icc": with power there are Intercept, arm'),
        ("convergence", {"estimand": "arm"}, "singular is of a method as a whole; leave estimand out"),
        ("convergence", {"subset": "common"}, "subset common has mean"),
        ("power", {"method": "ml"}, 'method = "ml": the results have reml/z, reml/satterthwaite'),
        ("power", {"subset": "some"}, 'subset = "some": the results have all, converged, common'),
        ("power", {"condition": 99}, "condition = 99: the results have 0, 1, 2, 3"),
        ("zip", {"x": "icc"}, 'x = "icc": the plot is of one condition; leave x out, use condition'),
        ("zip", {"measure": "bias"}, "the plot shows replicates; leave measure out"),
        ("lollipop", {"x": "icc"}, "kind lollipop has a row a condition; leave x out"),
        ("lollipop", {"color": "icc", "facet": "icc"}, 'facet = "icc": stands for color already'),
        ("nested-loop", {"x": "icc", "color": "icc"}, "must be different; choose among clusters, icc, truth.fixed.arm, method"),
        ("heatmap", {"condition": 1, "method": "reml/z"}, 'kind = "heatmap": needs two factors that vary, there is none'),
    ],
)  # fmt: skip
def test_mistakes_cost_a_line(grid: nl.Results, kind: str, asked: dict[str, Any], line: str) -> None:
    with pytest.raises(nl.StudyError, match=line) as caught:
        plots.draw(grid, kind, **asked)
    assert len(caught.value.problems) == 1


def test_axes_given(grid: nl.Results) -> None:
    figure = Figure()
    ax = figure.add_subplot()
    assert grid.plot.power(ax=ax, x="clusters", method="reml/z", color="icc", condition=1) is ax
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Number of schools", "power of arm")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["0.05"]
    other = figure.add_subplot()
    with pytest.raises(
        nl.StudyError, match=r"ax = one pair of axes: the plot has 2 panels \(true arm 0; true arm 0.8\)"
    ):
        grid.plot.power(ax=other, color="icc", facet="truth.fixed.arm")
    alone = grid.plot.measure("width", condition=0, method="reml/z")
    assert alone.get_ylabel() == "mean interval width of arm"


def test_every_method_of_the_accessor(grid: nl.Results) -> None:
    with pytest.raises(nl.StudyError, match="holds no search for a design"):
        grid.plot.solve()
    for kind in set(plots.KINDS) - {"solve"}:
        made = getattr(grid.plot, kind.replace("-", "_"))(method="reml/z", condition=4 if kind == "zip" else None)
        first = made.flat[0] if isinstance(made, np.ndarray) else made
        words = {
            "estimate-se": "Estimates of arm",
            "zip": "Intervals of arm",
            "nested-loop": "Nested loops: power of arm",
            "convergence": "Convergence",
            "methods": "Methods: arm",
            "coverage": "Coverage of arm",
            "bias": "Bias of arm",
        }
        assert title(first.figure).startswith(words.get(kind, "Power of arm"))


@pytest.mark.parametrize("ending", [".svg", ".pdf", ".png"])
def test_files_are_the_same_bytes_again(grid: nl.Results, tmp_path: Path, ending: str) -> None:
    a = plots.save(plots.draw(grid, "power", method="reml/z", condition=5), tmp_path / f"a{ending}")
    b = plots.save(plots.draw(grid, "power", method="reml/z", condition=5), tmp_path / "new" / f"b{ending}")
    data = a.read_bytes()
    assert data == b.read_bytes()
    assert data.startswith({".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}[ending])
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [f"a{ending}"], "no temporary file stays"
    for word in (b"<dc:date>", b"CreationDate"):
        assert word not in data


WORDS: dict[str, Any] = {"title": "T & t", "xlabel": "Schools", "ylabel": "Power", "caption": "Mine."}


@pytest.mark.parametrize("kind", ["power", "heatmap", "nested-loop", "lollipop", "zip", "estimate-se", "methods"])
def test_words_and_size_can_be_set(grid: nl.Results, kind: str) -> None:
    made = grid.plot(kind, method="reml/z", condition=5 if kind == "zip" else None, size=(7, 8), **WORDS)
    axes = [ax for ax in np.ravel(np.asarray(made, dtype=object)) if ax is not None]
    figure = axes[0].figure
    assert (title(figure), caption(figure)) == ("T & t", "Mine.")
    assert {ax.get_xlabel() for ax in axes} | {""} == {"Schools", ""}
    assert {ax.get_ylabel() for ax in axes} | {""} == {"Power", ""}
    assert tuple(figure.get_size_inches()) == (7, 8)
    assert messy(figure) == []


def test_no_title_and_no_caption(one: nl.Results) -> None:
    figure = plots.draw(one, "power", title="", caption="")
    assert [t.get_text() for t in figure.texts] == []
    assert messy(figure) == []


@pytest.mark.parametrize(
    ("size", "line"),
    [
        ((1, 4), r"size = \[1, 4\]: must be width and height from 2 to 100 inches; such as 7 5"),
        ((5, math.nan), "must be width and height from 2 to 100 inches"),
        ((4, 2), r"size = \[4.0, 2.?0?\]: leaves 0.. inches for the axes; make it .* high"),
    ],
)
def test_sizes_that_hold_no_axes_are_refused(grid: nl.Results, size: tuple[float, float], line: str) -> None:
    with pytest.raises(nl.StudyError, match=line):
        plots.draw(grid, "power", size=size)


def test_the_axis_is_the_number_of_the_groups(one: nl.Results, grid: nl.Results, many: nl.Results) -> None:
    assert grid.plot.power(method="reml/z", condition=1, x="clusters").get_xlabel() == "Number of schools"
    axes = grid.plot.heatmap(x="icc", color="clusters", method="reml/z")
    assert (axes[0, 0].get_xlabel(), axes[0, 0].get_ylabel()) == ("icc", "Number of schools")
    ax = many.plot.power(x="cluster_size", color="clusters", facet="icc")[-1, 0]
    assert ax.get_xlabel() == "Rows per school"


def test_alt_text_says_what_is_seen(one: nl.Results, grid: nl.Results) -> None:
    figure = plots.draw(grid, "power", method="reml/z")
    text = plots.alt_text(figure)
    rows = rows_of(grid, "power", estimand="arm", method="reml/z")
    low, high = rows.loc[rows["value"].idxmin()], rows.loc[rows["value"].idxmax()]
    assert text.startswith(
        "Power of arm. Over clusters (6, 10, 24); lines by icc (0.05, 0.3); panels by true arm (0, 0.8). "
    )
    named = [
        f"{r['value']:.3g} at clusters {r['clusters']}, icc {r['icc']:g}, true arm {r['truth.fixed.arm']:g}"
        for r in (low, high)
    ]
    assert f"Power of arm is from {named[0]} to {named[1]}. " in text
    up = 0
    for _, line in rows.groupby(["icc", "truth.fixed.arm"]):
        first, last = line.sort_values("clusters").iloc[[0, -1]].to_dict("records")
        up += last["value"] - first["value"] > 2 * math.hypot(first["mcse"], last["mcse"])
    assert up
    assert f"Power ends higher than it begins in {up}" in text
    assert text.endswith("of 4 lines.")
    value = rows_of(one, "power", estimand="arm")["value"].iloc[0]
    assert plots.alt_text(plots.draw(one, "power")) == f"Power of arm. Power of arm is {value:.3g}."
    for kind in plots.applicable(grid):
        said = plots.alt_text(plots.draw(grid, kind, method="reml/z"))
        assert any(character.isdigit() for character in said), kind
        assert said.count(".") > 1, kind


def test_files_have_their_text(grid: nl.Results, tmp_path: Path) -> None:
    figure = plots.draw(grid, "power", method="reml/z", title="A < B & C")
    root = ElementTree.fromstring(plots.as_svg(figure))
    space = "{http://www.w3.org/2000/svg}"
    assert (root[0].tag, root[0].text) == (f"{space}title", "A < B & C")
    assert (root[1].tag, f"A < B & C. {root[1].text}") == (f"{space}desc", plots.alt_text(figure))
    assert root.get("role") == "img"
    texts = {t.text for t in root.iter(f"{space}text")}
    assert {"Number of schools", "icc", "true arm 0.8"} <= texts, "text, not outlines"
    with Image.open(plots.save(figure, tmp_path / "a.png")) as image:
        assert image.info["Title"] == "A < B & C"
        assert image.info["Description"] == root[1].text


def test_save_refuses_other_endings(grid: nl.Results, tmp_path: Path) -> None:
    with pytest.raises(nl.StudyError, match=r"a.jpg\": the name must end in .svg, .pdf, .png; choose one of them"):
        plots.save(plots.draw(grid, "power"), tmp_path / "a.jpg")


def test_svg_text(grid: nl.Results, tmp_path: Path) -> None:
    figure = plots.draw(grid, "bias")
    assert plots.as_svg(figure) == plots.save(figure, tmp_path / "a.svg").read_text()


def test_matplotlib_is_left_as_it_was(grid: nl.Results, tmp_path: Path) -> None:
    with mpl.rc_context({"font.size": 31.0, "axes.facecolor": "red", "text.color": "lime"}):
        before = dict(mpl.rcParams)
        figure = plots.draw(grid, "power")
        plots.save(figure, tmp_path / "a.png")
        grid.plot.zip()
        assert dict(mpl.rcParams) == before
    assert figure.get_axes()[0].get_facecolor() == (1, 1, 1, 1), "the caller's style does not get in"


def test_threads_draw_the_same(grid: nl.Results) -> None:
    kinds = ["bias", "zip", "estimate-se"]
    alone = {kind: plots.as_svg(plots.draw(grid, kind)) for kind in kinds}
    made: dict[str, str] = {}

    def work(kind: str) -> None:
        made[kind] = plots.as_svg(plots.draw(grid, kind))

    threads = [threading.Thread(target=work, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == alone
