"""The whole text of summaries against R's, character by character: printed/, made by printed/printed.R, and multi/.

Only the formula (R breaks long ones in its own way) and what follows on the optimiser are left out.
"""

import re
from pathlib import Path

import pytest

from nestlab.fit.printed import summary_text
from nestlab.fit.single import fit
from nestlab.spec.data import read_frame

HERE = Path(__file__).parent
DATA_OF = {"thousands": "02_ri", "mixed": "wide"}
FILES = sorted((HERE / "printed").glob("*.txt"))
SEVERAL = sorted((HERE / "multi").glob("*.txt"))


def text_of(name: str) -> str:
    return next(path for path in FILES + SEVERAL if path.stem == name).read_text(encoding="utf-8")


def formula_of(text: str) -> str:
    return " ".join(text[text.index("Formula:") + 8 : text.index("   Data:")].split())


def body(text: str) -> list[str]:
    lines = text.splitlines()
    call = next(k for k, line in enumerate(lines) if line.startswith("Formula:"))
    lines = lines[:call] + lines[lines.index("   Data: d") + 1 :]
    ends = ("optimizer (", "boundary (singular) fit")
    stop = next((k for k, line in enumerate(lines) if line.startswith(ends)), len(lines))
    return lines[:stop]


def ours(name: str) -> str:
    case, kind = re.fullmatch(r"(.*?)_((?:ML_)?between-within|ML|REML)", name).groups()
    case = DATA_OF.get(case, case)
    several = any(path.stem == name for path in SEVERAL)
    folder = HERE / "multi" if several else HERE if case[0].isdigit() else HERE / "printed"
    data = read_frame(folder / f"{case}.csv")
    df = "between-within" if "between" in kind else "z"
    return summary_text(fit(formula_of(text_of(name)), data, reml=not kind.startswith("ML"), df=df), data="d")


@pytest.mark.parametrize("name", [path.stem for path in FILES + SEVERAL])
def test_summary_equals_rs(name):
    assert body(ours(name)) == body(text_of(name))


def test_the_files_cover_the_layouts():
    names = {path.stem for path in FILES}
    assert len(names) >= 20
    assert len(SEVERAL) == 10
    assert {
        "wide_REML",
        "mixed_REML",
        "thousands_REML",
        "wide_ML_between-within",
        "few_ML_between-within",
        "08_rs2_REML",
        "30_indep_ML",
    } <= names


def test_a_correlation_with_a_variance_of_0_is_nan_in_rs_width():
    data = read_frame(HERE / "12_rs.csv")
    lines = fit("y ~ x + (1 + x | g)", data).summary().splitlines()
    table = lines[lines.index("Random effects:") + 1 :][:4]
    assert table == [
        " Groups   Name        Variance Std.Dev. Corr",
        " g        (Intercept) 0.000    0.000        ",
        "          x           0.000    0.000     NaN",
        " Residual             1.556    1.247        ",
    ]


@pytest.mark.parametrize("name", ["15_slopeonly_REML", "27_trt_REML", "30_indep_REML", "few_ML"])
def test_singular_fits_say_so_where_lme4_does(name):
    assert "boundary (singular) fit" in text_of(name)
    last = ours(name).splitlines()[-2:]
    assert last == [
        "boundary (singular) fit",
        "The fit is an optimum on the boundary: a variance is 0 or a correlation is -1 or 1.",
    ]
