"""Numbers and tables against R: rformat.json, made by rformat.R."""

import json
import math
from pathlib import Path

import pytest

from nestlab.fit import rformat

CASES = json.loads((Path(__file__).parent / "rformat.json").read_text(encoding="utf-8"))


def value(text: str) -> float | None:
    return None if text == "NA" else float(text)


def test_format_against_r():
    for case in CASES["format"]:
        values = [value(text) for text in case["values"]]
        assert rformat.format_real(values, case["digits"], case["nsmall"]) == case["text"], case


def test_round_against_r():
    for case in CASES["round"]:
        assert rformat.round_to(float(case["value"]), case["digits"]) == float(case["result"]), case


def test_zapsmall_against_r():
    for case in CASES["zapsmall"]:
        assert rformat.zapsmall([float(v) for v in case["values"]], case["digits"]) == [
            float(v) for v in case["result"]
        ]


def test_format_pval_against_r():
    for case in CASES["format_pval"]:
        assert rformat.format_pvalues([float(v) for v in case["values"]], case["digits"]) == case["text"], case


def test_stars_against_r():
    assert rformat.stars([float(v) for v in CASES["stars"]["values"]]) == CASES["stars"]["text"]
    assert rformat.stars([math.nan]) == [""]


def test_abbreviate_against_r():
    for case in CASES["abbreviate"]:
        assert rformat.abbreviate(case["names"], case["minlength"]) == case["text"], case


def test_print_of_a_matrix_against_r():
    for case in CASES["matrix"]:
        lines = rformat.matrix_lines(case["rows"], case["columns"], case["cells"], right=case["right"])
        assert lines == case["lines"], case


def test_print_of_a_named_vector_against_r():
    for case in CASES["named"]:
        assert rformat.named_lines(case["names"], case["cells"]) == case["lines"]


def test_cat_fill_against_r():
    for case in CASES["cat_fill"]:
        assert rformat.cat_fill(case["pieces"], case["separator"]) == case["lines"], case


def test_nothing_to_format():
    assert rformat.format_real([]) == []
    assert rformat.format_pvalues([], 3) == []
    assert rformat.abbreviate([], 6) == []


@pytest.mark.parametrize("digits", [0, 3])
def test_round_leaves_what_is_not_finite(digits):
    assert rformat.round_to(math.inf, digits) == math.inf
    assert math.isnan(rformat.round_to(math.nan, digits))
