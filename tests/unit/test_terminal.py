"""What is printed has the names of a study as they are, whatever rich would make of them."""

from __future__ import annotations

import io
from pathlib import Path

from rich.table import Table
from typer.testing import CliRunner

import nestlab as nl
from nestlab.show.cli import app
from nestlab.show.terminal import terminal


def test_names_are_neither_emoji_nor_styles() -> None:
    shown = io.StringIO()
    table = Table("cov:id:t")
    table.add_row("k[b] :school: [red]x[/red]")
    terminal(file=shown, width=60).print(table, "[dim]:key:")
    for name in ("cov:id:t", "k[b] :school: [red]x[/red]", "[dim]:key:"):
        assert name in shown.getvalue()


def test_a_summary_has_the_names_of_its_estimands(tmp_path: Path) -> None:
    nl.Study.from_dict(
        {
            "name": "names",
            "seed": 1,
            "replications": 20,
            "design": {"clusters": 10, "cluster_size": 6},
            "truth": {
                "formula": "y ~ k + (1 | id)",
                "fixed": {"Intercept": 0, "k[b]": 0.1, "k[c]": 0},
                "residual_variance": 1,
                "random": {"id": {"variance": {"Intercept": 0.2}}},
            },
            "predictors": {"k": {"level": 1, "distribution": "balanced", "categories": ["a", "b", "c"]}},
        }
    ).run(out=tmp_path / "r", jobs=1)
    shown = CliRunner().invoke(app, ["summary", str(tmp_path / "r"), "--measure", "mean"])
    assert shown.exit_code == 0
    for name in ("var:id:Intercept", "sd:id:Intercept", "k[b]", "k[c]"):
        assert f" {name} " in shown.stdout
