"""Tables as journals print them: the exact text, and the numbers behind it."""

from __future__ import annotations

import copy
import io
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import nestlab as nl
from nestlab.show.cli import app
from nestlab.show.plots import KINDS
from nestlab.show.plots.choose import Dimension
from nestlab.show.plots.words import fixed
from nestlab.show.tables import (
    Cell,
    MeasureTable,
    Shown,
    decimals_for,
    make_table,
    to_csv,
    to_frame,
    to_latex,
    to_markdown,
)

STUDY: dict[str, Any] = {
    "name": "tabled",
    "seed": 4,
    "replications": 50,
    "design": {"clusters": 8, "cluster_size": 5},
    "grid": {"clusters": [6, 12], "icc": [0.05, 0.3], "truth.fixed.arm": [0.0, 0.8]},
    "truth": {
        "formula": "y ~ 1 + arm + (1 | school)",
        "fixed": {"Intercept": 2, "arm": 0.5},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2}}},
    },
    "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
    "method": [{"name": "reml", "df": ["z", "satterthwaite"]}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "tabled"


@pytest.fixture(scope="module")
def results(folder: Path) -> nl.Results:
    return nl.Study.from_dict(copy.deepcopy(STUDY)).run(out=folder)


def dimension(name: str, *levels: Any, title: str | None = None) -> Dimension:
    return Dimension(name, title or name, levels, tuple(map(str, levels)), numeric=False)


@pytest.fixture
def awkward() -> MeasureTable:
    """Names that Markdown and LaTeX would misread, a negative value, a value and an MCSE that are missing, a tiny MCSE."""
    size, method = dimension("cluster_size", "5", "[2, 8]"), dimension("method", "a_1|z", "50%&more")
    cells = {
        (("5",), ("a_1|z",)): Cell(-0.01234, 0.0123, 100),
        (("5",), ("50%&more",)): Cell(0.5, math.nan, 1),
        (("[2, 8]",), ("a_1|z",)): Cell(math.nan, math.nan, 0),
        (("[2, 8]",), ("50%&more",)): Cell(0.99999, 0.00001, 100),
    }
    keys = (("5",), ("[2, 8]",)), (("a_1|z",), ("50%&more",))
    shown = (Shown("bias", "bias of x_1", "x_1", "all"),)
    return MeasureTable("Bias of x_1, 95 % ± 1.", shown, (size,), (method,), *keys, cells)


def test_markdown_exactly(awkward: MeasureTable) -> None:
    assert to_markdown(awkward) == (
        "Bias of x_1, 95 % ± 1.\n"
        "\n"
        "| cluster_size |           a_1\\|z |         50%&more |\n"
        "| ------------ | ---------------: | ---------------: |\n"
        "| 5            | -0.0123 (0.0123) |       0.5000 (-) |\n"
        "| [2, 8]       |                - | 1.0000 (<0.0001) |\n"
    )


def test_latex_exactly(awkward: MeasureTable) -> None:
    assert (
        to_latex(awkward)
        == r"""\begin{table}
\centering
\caption{Bias of x\_1, 95 \% $\pm$ 1.}
\begin{tabular}{lrr}
\toprule
cluster\_size & a\_1\textbar{}z & 50\%\&more \\
\midrule
5 & $-$0.0123 (0.0123) & 0.5000 (--) \\
{[}2, 8{]} & -- & 1.0000 ($<$0.0001) \\
\bottomrule
\end{tabular}
\end{table}
"""
    )


def test_csv_exactly(awkward: MeasureTable) -> None:
    assert to_csv(awkward) == (
        "cluster_size,method,estimand,measure,subset,value,mcse,n\n"
        "5,a_1|z,x_1,bias,all,-0.01234,0.0123,100\n"
        "5,50%&more,x_1,bias,all,0.5,,1\n"
        '"[2, 8]",a_1|z,x_1,bias,all,,,0\n'
        '"[2, 8]",50%&more,x_1,bias,all,0.99999,1e-05,100\n'
    )


def test_latex_heads_of_two_factors(results: nl.Results) -> None:
    text = to_latex(make_table(results, rows=["clusters"], columns=["icc", "method"]))
    assert (
        r"""\begin{tabular}{llrrrr}
\toprule
 &  & \multicolumn{2}{c}{icc 0.05} & \multicolumn{2}{c}{icc 0.3} \\
\cmidrule(lr){3-4} \cmidrule(lr){5-6}
clusters & true arm & reml/z & reml/satterthwaite & reml/z & reml/satterthwaite \\
\midrule
6 & 0 & """
        in text
    )


@pytest.mark.parametrize(
    ("mcses", "decimals"),
    [
        ([0.012, 0.013], 2),
        ([0.0096], 3),
        ([0.1], 1),
        ([0.012, 0.009, 0.011], 3),
        ([0.02, 0.02, 0.02, 1e-6], 3),
        ([12.0, 3.0], 0),
        ([0.0, math.nan], 3),
    ],
)
def test_decimals(mcses: list[float], decimals: int) -> None:
    assert decimals_for(mcses) == decimals


def test_no_negative_zero() -> None:
    assert [fixed(v, 2) for v in (-0.001, -0.009, 0.0, -1.005)] == ["0.00", "-0.01", "0.00", "-1.00"]


def test_cells_are_the_summary(results: nl.Results) -> None:
    table = make_table(results, "cover", rows=["icc"], columns=["clusters"], method="reml/z")
    summary = results.summary().query(
        "measure == 'cover' and estimand == 'arm' and method == 'reml/z' and subset == 'all'"
    )
    assert [d.name for d in table.rows] == ["icc", "truth.fixed.arm"], "what is left over stands on the rows"
    assert len(table.cells) == len(summary) == 8
    for row in summary.to_dict("records"):
        cell = table.cells[(row["icc"], row["truth.fixed.arm"]), (row["clusters"],)]
        assert (cell.value, cell.mcse, cell.n) == (row["value"], row["mcse"], row["n"])
    decimals = {len(text.split(" ")[0].split(".")[1]) for text in to_frame(table).to_numpy().ravel()}
    assert len(decimals) == 1


def test_caption(results: nl.Results) -> None:
    assert make_table(results, method="reml/z").caption == (
        "Power of arm. n = 50 replicates a cell (50 asked for). Monte Carlo standard errors in parentheses. "
        "Tests at level 0.05. Where the true effect is null, power is the type I error rate. Method: reml/z."
    )
    text = make_table(results, "cover", subset="common").caption
    assert text.endswith("Monte Carlo standard errors in parentheses. Intervals of 95 %. Replicates: common.")


def test_frame(results: nl.Results) -> None:
    frame = results.table("bias", rows="clusters", columns=["icc", "method"])
    assert frame.index.names == ["clusters", "true arm"]
    assert frame.columns.names == ["icc", "method"]
    assert frame.attrs["caption"].startswith("Bias of arm. n = 50 replicates a cell")
    row = results.summary().query(
        "measure == 'bias' and estimand == 'arm' and method == 'reml/z' and subset == 'all' and clusters == 6 "
        "and icc == 0.05 and `truth.fixed.arm` == 0.8"
    )
    value, mcse = frame.loc[("6", "0.8"), ("0.05", "reml/z")].split(" ")
    assert float(value) == pytest.approx(row["value"].iloc[0], abs=0.006)
    assert float(mcse.strip("()")) == pytest.approx(row["mcse"].iloc[0], abs=0.006)


def test_csv_has_all_digits(results: nl.Results) -> None:
    table = make_table(results, "bias", columns=["clusters"])
    frame = pd.read_csv(io.StringIO(to_csv(table)), dtype={"value": str, "mcse": str}).astype(
        {"value": float, "mcse": float}
    )
    summary = results.summary().query("measure == 'bias' and estimand == 'arm' and subset == 'all'")
    keys = ["clusters", "icc", "truth.fixed.arm", "method"]
    both = frame.merge(summary, on=keys, suffixes=("", "_stored"))
    assert len(frame) == len(both) == 16
    assert (both["value"] == both["value_stored"]).all()
    assert (both["mcse"] == both["mcse_stored"]).all()
    assert (both["n"] == 50).all()


MANY = ["bias", "rmse", "cover", "converged"]


def test_several_measures_side_by_side(results: nl.Results) -> None:
    table = make_table(results, MANY)
    assert [d.name for d in table.columns] == ["measure"]
    assert [d.name for d in table.rows] == ["clusters", "icc", "truth.fixed.arm", "method"]
    assert table.column_keys == tuple((m,) for m in MANY)
    summary = results.summary().query("subset == 'all' and estimand in ('arm', '')")
    for row in summary[summary["measure"].isin(MANY)].to_dict("records"):
        key = (row["clusters"], row["icc"], row["truth.fixed.arm"], row["method"])
        cell = table.cells[key, (row["measure"],)]
        assert (cell.value, cell.mcse, cell.n) == pytest.approx((row["value"], row["mcse"], row["n"]), nan_ok=True)
    assert len(table.cells) == 4 * 16
    assert table.caption.startswith(
        "Bias, root mean squared error, coverage of arm; converged. n = 50 replicates a cell"
    )
    for measure in MANY:
        alone = [c.mcse for (_, (m,)), c in table.cells.items() if m == measure]
        assert table.decimals[measure] == decimals_for(alone), "each measure has decimals of its own"
    heads = to_markdown(table).splitlines()[2]
    assert [h.strip() for h in heads.strip("|").split("|")][4:] == [
        "bias", "root mean squared error", "coverage", "converged",
    ]  # fmt: skip


def test_several_measures_under_methods_and_on_rows(results: nl.Results) -> None:
    table = make_table(results, ["bias", "cover"], columns=["method"])
    assert [d.name for d in table.columns] == ["method", "measure"]
    text = to_latex(table)
    assert r"\multicolumn{2}{c}{reml/z} & \multicolumn{2}{c}{reml/satterthwaite} \\" in text
    assert text.count("bias & coverage & bias & coverage") == 1
    table = make_table(results, ["bias", "cover"], rows=["measure"], columns=["method"])
    assert [d.name for d in table.rows] == ["measure", "clusters", "icc", "truth.fixed.arm"]
    single = make_table(results, "cover", columns=["method"])
    for key, cell in single.cells.items():
        assert table.cells[("cover", *key[0]), key[1]] == cell
        assert table.text(("cover", *key[0]), key[1]) == single.text(*key)


def test_csv_of_several_measures(results: nl.Results) -> None:
    frame = pd.read_csv(io.StringIO(to_csv(make_table(results, MANY, subset="converged"))), keep_default_na=False)
    assert list(frame.columns[-6:]) == ["estimand", "measure", "subset", "value", "mcse", "n"]
    assert frame.groupby("measure").size().to_dict() == dict.fromkeys(MANY, 16)
    of = frame[["measure", "estimand", "subset"]].drop_duplicates().to_dict("records")
    assert {"measure": "converged", "estimand": "", "subset": "all"} in of, "of all fits: the subset has none"
    assert {"measure": "rmse", "estimand": "arm", "subset": "converged"} in of


def test_caption_and_label(results: nl.Results, folder: Path) -> None:
    table = make_table(results, "bias", caption="Bias & more", label="tab:bias-1")
    assert "\\caption{Bias \\& more}\n\\label{tab:bias-1}\n\\begin{tabular}" in to_latex(table)
    assert to_markdown(table).startswith("Bias & more\n\n| ")
    assert results.table("bias", caption="Mine").attrs["caption"] == "Mine"
    with pytest.raises(
        nl.StudyError, match=r'label = "a}b": must have letters, digits, and : . _ - only; such as tab:power'
    ):
        make_table(results, "bias", label="a}b")
    made = nestlab(
        "table", folder, "--measure", "bias,rmse", "--measure", "cover", "--format", "latex", "--label", "tab:x", "--caption", "C"
    )  # fmt: skip
    assert (made.exit_code, made.stdout) == (
        0, to_latex(make_table(results, ["bias", "rmse", "cover"], caption="C", label="tab:x")),
    )  # fmt: skip
    made = nestlab("table", folder, "--label", "tab:x")
    assert (made.exit_code, made.stderr) == (
        2, 'error: label = "tab:x": is only for format = "latex"; add --format latex, or leave it out\n',
    )  # fmt: skip
    made = nestlab("table", folder, "--caption", "C", "--format", "csv")
    assert (made.exit_code, made.stderr) == (
        2, 'error: caption = "C": format = "csv" has none; leave it out, or choose another format\n',
    )  # fmt: skip
    with pytest.raises(nl.StudyError, match=r'measure = "bais": the results have .*; did you mean "bias"'):
        make_table(results, ["bais", "rmse"])


def test_one_condition(tmp_path: Path) -> None:
    tables = {k: v for k, v in STUDY.items() if k not in ("grid", "method")}
    results = nl.Study.from_dict(copy.deepcopy(tables)).run(out=tmp_path / "one")
    table = make_table(results)
    lines = to_markdown(table).splitlines()
    assert lines[2:4] == ["| power of arm |", "| -----------: |"]
    assert len(lines) == 5
    assert r"\begin{tabular}{r}" in to_latex(table)
    assert list(to_frame(table).columns) == ["power of arm"]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"rows": ["clutsers"]}, 'rows = "clutsers": the results vary by clusters, .*, method; did you mean "clusters"'),
        ({"columns": ["z"]}, 'columns = "z": the results vary by clusters'),
        ({"rows": ["icc"], "columns": ["icc"]}, "icc is named twice; name every factor once"),
        ({"measure": "pwer"}, 'measure = "pwer": the results have .*; did you mean "power"'),
        ({"estimand": "b"}, 'estimand = "b": the results have'),
        ({"method": "lmer"}, 'method = "lmer": the results have reml/z, reml/satterthwaite'),
    ],
)  # fmt: skip
def test_mistakes_cost_a_line(results: nl.Results, asked: dict[str, Any], line: str) -> None:
    with pytest.raises(nl.StudyError, match=line):
        make_table(results, **asked)


def nestlab(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_cli_table(results: nl.Results, folder: Path, tmp_path: Path) -> None:
    made = nestlab("table", folder, "--measure", "bias", "--rows", "clusters,icc", "--columns", "method")
    wanted = make_table(results, "bias", rows=["clusters", "icc"], columns=["method"])
    assert (made.exit_code, made.stdout) == (0, to_markdown(wanted))
    out = tmp_path / "a" / "b.tex"
    made = nestlab("table", folder, "--measure", "bias", "--columns", "icc", "--columns", "method", "--out", out)
    assert (made.exit_code, made.stdout, made.stderr) == (0, "", f"written to {out}\n")
    assert out.read_text() == to_latex(make_table(results, "bias", columns=["icc", "method"]))
    refused = nestlab("table", folder, "--format", "html")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == 'error: format = "html": must be one of markdown, latex, csv; leave it out for markdown\n'


def test_cli_plot(results: nl.Results, folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "nestlab",
        "plot",
        str(folder),
        "--kind",
        "heatmap",
        "--x",
        "clusters",
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stdout) == (0, ""), made.stderr
    assert sorted(p.name for p in (folder / "plots").iterdir()) == ["heatmap.png", "heatmap.svg"]
    words = ("--title", "Mine", "--xlabel", "Schools", "--ylabel", "icc", "--caption", "Said.", "--size", "7", "5")
    made = nestlab("plot", folder, "--kind", "heatmap", *words, "--out", tmp_path / "a.svg")
    assert made.exit_code == 0, made.stderr
    text = (tmp_path / "a.svg").read_text()
    assert all(f">{word}</text>" in text for word in ("Mine", "Schools", "Said."))
    assert 'width="504pt" height="360pt"' in text
    refused = nestlab("plot", folder, "--kind", "pwoer")
    assert refused.exit_code == 2
    assert refused.stderr.startswith('error: kind = "pwoer": the kinds are solve, power, coverage, ')
    refused = nestlab("plot", tmp_path, "--out", tmp_path / "a.jpg")
    assert (
        refused.stderr
        == f'error: out = "{tmp_path / "a.jpg"}": the name must end in .svg, .pdf, .png; choose one of them\n'
    )


def test_cli_help_names_every_kind() -> None:
    text = " ".join(nestlab("plot", "--help").stdout.split())
    for kind in KINDS:
        assert kind in text


def test_cli_incomplete_results_say_so(folder: Path, results: nl.Results, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "cut")
    sorted((tmp_path / "cut" / "replicates").glob("*.parquet"))[0].unlink()
    for arguments in (("table",), ("plot", "--kind", "lollipop")):
        made = nestlab(arguments[0], tmp_path / "cut", *arguments[1:])
        assert made.exit_code == 4
        assert made.stderr.endswith("error: incomplete: 50 fits are missing; nestlab run goes on from here\n")


def test_power_over_a_prior_is_no_type_one_error_rate(tmp_path: Path) -> None:
    """A prior of mean 0 on an effect: no replicate's null hypothesis is true, of the effect or of a contrast of it."""
    study = copy.deepcopy(STUDY) | {"grid": {"clusters": [6, 12]}}
    study["prior"] = {"truth.fixed.arm": {"distribution": "normal", "mean": 0, "sd": 0.5}}
    study["contrast"] = [{"name": "twice", "weights": {"arm": 2}}]
    over = nl.Study.from_dict(study).run(out=tmp_path / "over")
    assert make_table(over, "power", estimand="arm").caption.startswith("Power of arm. ")
    assert make_table(over, "power", estimand="twice").caption.startswith("Power of twice. ")
    study["prior"] = {"icc": {"distribution": "beta", "mean": 0.1, "sd": 0.05}}
    study["truth"]["fixed"]["arm"] = 0
    null = nl.Study.from_dict(study).run(out=tmp_path / "null")
    assert make_table(null, "power", estimand="twice").caption.startswith("Type I error rate of twice. ")
