"""What the outcome looks like, as people read it: one block, wherever it is printed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import nestlab as nl
from nestlab.run.store import RefusedError
from nestlab.show.outcome import LABELS, MOST, outcome_lines, outcome_numbers
from nestlab.show.report.ademp import ademp
from nestlab.show.report.material import Material, Paragraph, ReportTable
from nestlab.show.solve_command import Options, solve_command
from nestlab.show.summary import overview

#: The trial of the questions that planners ask: a pretest of slope 0.7, an effect of 0.25, an icc of 0.05.
TRIAL = """
name = "trial"
seed = 1
replications = 200
design = { clusters = 30, cluster_size = 20 }
[truth]
formula = "y ~ 1 + treatment + pretest + (1 | school)"
fixed = { Intercept = 0, treatment = { d = 0.25 }, pretest = 0.7 }
residual_variance = 0.51
random = { school = { variance = { Intercept = 0.02684210526315789 } } }
[predictors.treatment]
level = 2
distribution = "balanced"
[predictors.pretest]
level = 1
distribution = "normal"
icc = 0.05
"""
BY_OUTCOME = TRIAL.replace("{ d = 0.25 }", '{ d = 0.25, by = "outcome" }').replace(
    "random = { school = { variance = { Intercept = 0.02684210526315789 } } }", "outcome = { icc = 0.05 }"
)
LINES = [
    "what the outcome looks like, given treatment:",
    "  variance 1.027 (sd 1.013)",
    "  icc 0.05 unconditional, 0.05 given all predictors",
    "  R2 of the other predictors: 0.4772 within clusters, 0.4772 between clusters",
    "  effect of treatment 0.2533 raw",
    "    = 0.25 outcome sd = 0.3458 total sd = 0.3547 residual sd",
]


def written(folder: Path, text: str) -> Path:
    path = folder / "trial.toml"
    path.write_text(text)
    return path


def lines_of(text: str, estimand: str = "treatment", tmp_path: Path | None = None) -> list[str]:
    assert tmp_path is not None
    study = nl.Study.from_toml(written(tmp_path, text))
    contrasts = tuple(c for method in study.file.methods() for c in method.contrasts)
    return outcome_lines(study.file.conditions(), estimand, contrasts)


def test_the_block(tmp_path: Path) -> None:
    assert lines_of(BY_OUTCOME, tmp_path=tmp_path) == LINES


def test_the_block_over_a_grid_has_ranges(tmp_path: Path) -> None:
    grid = "\n[grid]\n'truth.outcome.icc' = [0.05, 0.2]\n"
    found = lines_of(BY_OUTCOME.replace("[truth]", f"{grid}[truth]"), tmp_path=tmp_path)
    assert found[1] == "  variance 1.027 to 1.219 (sd 1.013 to 1.104)"
    assert found[2].startswith("  icc 0.05 to 0.2 unconditional, 0.05 to 0.3")
    assert found[5].startswith("    = 0.25 outcome sd = ")


def test_the_block_of_what_has_no_icc_no_intercept_and_no_variance(tmp_path: Path) -> None:
    ar1 = TRIAL.replace("residual_variance", "errors = { ar1 = 0.3 }\nresidual_variance")
    assert (
        lines_of(ar1, tmp_path=tmp_path)[2]
        == "  no unconditional icc, as errors are autocorrelated, 0.05 given all predictors"
    )
    slope = TRIAL.replace("(1 | school)", "(0 + pretest | school)").replace("{ Intercept = 0.02", "{ pretest = 0.02")
    slope = slope.replace("{ d = 0.25 }", "0.2")
    found = lines_of(slope, tmp_path=tmp_path)
    assert "total" not in found[5]
    assert "given all predictors" not in found[2]
    drawn = TRIAL.replace("cluster_size = 20", "cluster_size = { distribution = 'poisson', mean = 20 }")
    unknown = drawn.replace('distribution = "normal"\nicc = 0.05', 'distribution = "time"')
    assert lines_of(unknown, tmp_path=tmp_path) == [
        "what the outcome looks like, given treatment: not known, as the variance of pretest does not follow from the predictors"
    ]


def test_the_block_with_priors_and_of_many_conditions_says_where_it_holds(tmp_path: Path) -> None:
    prior = "[prior]\nicc = { distribution = 'beta', mean = 0.05, sd = 0.02 }\n[truth]"
    found = lines_of(TRIAL.replace("[truth]", prior), tmp_path=tmp_path)
    assert found[0] == "what the outcome looks like, given treatment, at the means of the priors:"
    grid = f"[grid]\n'truth.fixed.pretest' = {[k / 1000 for k in range(MOST + 1)]}\n[truth]"
    found = lines_of(TRIAL.replace("[truth]", grid), tmp_path=tmp_path)
    assert found[0] == "what the outcome looks like, given treatment, in the first condition:"
    assert found[3].endswith("0 within clusters, 0 between clusters")


def test_the_block_of_a_contrast_and_of_a_variance(tmp_path: Path) -> None:
    contrast = "\n[[contrast]]\nname = 'twice'\nweights = { treatment = 2 }\n"
    found = lines_of(BY_OUTCOME + contrast, "twice", tmp_path)
    assert found[:4] == LINES[:4]
    assert found[4:] == ["  effect of twice 0.5067 raw", "    = 0.5 outcome sd = 0.6915 total sd = 0.7095 residual sd"]
    assert lines_of(BY_OUTCOME, "var:school:Intercept", tmp_path) == LINES[:4]


def test_run_and_summary_say_it(tmp_path: Path) -> None:
    results = nl.Study.from_toml(
        written(
            tmp_path,
            BY_OUTCOME.replace(" + pretest", "").replace(", pretest = 0.7", "").split("[predictors.pretest]")[0],
        )
    ).run(out=tmp_path / "r")
    console = Console(file=io.StringIO(), width=150)
    console.print(overview(results, 150))
    assert (
        "what the outcome looks like, given treatment:\n  variance 0.5368 (sd 0.7327)\n  icc 0.05 uncond"
        in console.file.getvalue()
    )  # type: ignore[attr-defined]


def test_solve_says_it_and_what_planners_ask_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By total variance and the conditional icc it takes 50 schools and more; by the outcome's 28."""
    needed = {}
    for name, text in (("total", TRIAL.replace("icc = 0.05\n", "")), ("outcome", BY_OUTCOME)):
        options = Options({"power": 0.8}, ["treatment"], over=["clusters"])
        solve_command(written(tmp_path, text), options, seed=None, jobs=1, out=tmp_path / name, json_wanted=True)
        answer = json.loads(capsys.readouterr().out)
        needed[name] = answer["solution"], answer["outcome"]["treatment"]
    (total, by_total), (outcome, by_outcome) = needed.values()
    assert 48 <= total <= 54
    assert 26 <= outcome <= 30
    assert list(by_outcome) == list(LABELS)
    assert (by_outcome["d_outcome"], by_outcome["icc"]) == pytest.approx((0.25, 0.05))
    assert (by_total["d_total"], by_total["icc_conditional"]) == pytest.approx((0.25, 0.05))
    solve_command(
        written(tmp_path, BY_OUTCOME), options, seed=None, jobs=1, out=tmp_path / "outcome", json_wanted=False
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed[1:7] == LINES


def test_solve_says_it_of_the_answer_where_the_outcome_is_searched(tmp_path: Path) -> None:
    solved = nl.Study.from_toml(written(tmp_path, BY_OUTCOME)).solve(
        over="truth.outcome.icc",
        between=(0.03, 0.2),
        power=0.8,
        estimand="treatment",
        out=tmp_path / "icc",
        precision=0.5,
    )
    solution = solved.solutions[0]
    numbers = outcome_numbers(solution.condition, "treatment")
    assert numbers["icc"] == pytest.approx(solution.values["truth.outcome.icc"])


def test_solve_over_the_effect_of_a_covariate_that_r2_gives(tmp_path: Path) -> None:
    from nestlab.show.solve_command import question_of

    text = BY_OUTCOME.replace("icc = 0.05 }", "icc = 0.05, r2_within = 0.3 }").replace(", pretest = 0.7", "")
    study = nl.Study.from_toml(written(tmp_path, text)).file
    for estimand, axis in (("pretest", "truth.outcome.r2_within"), ("treatment", "truth.fixed.treatment.d")):
        question = question_of(study, Options({"power": 0.8}, [estimand], over=["effect"]))
        assert question.over == (axis,)


def test_the_report_says_it(tmp_path: Path) -> None:
    results = nl.Study.from_toml(written(tmp_path, BY_OUTCOME)).run(out=tmp_path / "r")
    blocks: list[Any] = [b for section in ademp(Material.read(results)) for b in section.blocks]
    table = next(
        b for b in blocks if isinstance(b, ReportTable) and b.caption.startswith("What the outcome looks like")
    )
    assert table.header == ("", "treatment", "pretest")
    shown = {row[0]: row[1] for row in table.rows}
    assert list(shown) == list(LABELS.values())
    assert (shown["variance"], shown["icc, unconditional"], shown["effect in outcome sds"]) == (
        "1.027",
        "0.05",
        "0.25",
    )
    assert any(
        isinstance(b, Paragraph) and "unconditional icc are the outcome's own within arms" in b.text for b in blocks
    )


def test_a_grid_of_the_outcome_may_grow_and_what_it_means_may_not_change(tmp_path: Path) -> None:
    """Variances and the coefficient that r2 gives follow from the axes: they are not changes of what is stored."""
    outcome = "outcome = { variance = 1.0, icc = 0.1, r2_within = 0.3 }"
    text = BY_OUTCOME.replace("outcome = { icc = 0.05 }", outcome).replace(", pretest = 0.7", "")
    text = text.replace("residual_variance = 0.51\n", "").replace("replications = 200", "replications = 5")
    grid = "[grid]\n'truth.outcome.r2_within' = [0.3]\n[truth]"
    first = nl.Study.from_toml(written(tmp_path, text.replace("[truth]", grid))).run(out=tmp_path / "r")
    assert [text.partition(" (")[2] for text in first.stated()["pretest"]] == [
        "r2 = 0.3 of level 1 within arms, with other covariates)"
    ]
    more = text.replace("[truth]", grid.replace("[0.3]", "[0.3, 0.5]"))
    grown = nl.Study.from_toml(written(tmp_path, more)).run(out=tmp_path / "r")
    assert list(grown.conditions()["truth.outcome.r2_within"]) == [0.3, 0.5]
    with pytest.raises(
        RefusedError, match=r"what stored conditions mean: truth.outcome.icc: stored 0.1, now 0.2\. Restore"
    ):
        nl.Study.from_toml(written(tmp_path, text.replace("icc = 0.1,", "icc = 0.2,"))).run(out=tmp_path / "r")
