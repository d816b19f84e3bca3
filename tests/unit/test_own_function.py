"""Python functions as methods: consent, their results, what they raise and warn, and the identity of their code."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

import nestlab as nl
from nestlab.fit.attempt import MAX_MESSAGE, attempt
from nestlab.fit.methods.function import read_result
from nestlab.fit.own_code import load_function
from nestlab.run.store import RefusedError
from nestlab.show.cli import app
from nestlab.show.summary import said_lines
from nestlab.spec.problems import StudyError

STUDY = """
name = "own"
seed = 11
replications = 30

[design]
clusters = 10
cluster_size = 5

[truth]
formula = "y ~ 1 + arm + (1 | school)"
fixed = { Intercept = 2, arm = 0.5 }
residual_variance = 1

[truth.random.school]
variance = { Intercept = 0.2 }

[predictors.arm]
level = 2
distribution = "balanced"
"""
CODE = """
import random
import sys
import warnings
import numpy as np
from scipy import stats
from helper_of_rivals import ADDED

def t_test(frame):
    means = frame.groupby("school")[["arm", "y"]].mean()
    a, b = (means.loc[means["arm"] == k, "y"] for k in (1, 0))
    found = stats.ttest_ind(a, b)
    d = a.mean() - b.mean()
    return {"arm": (d, abs(d / found.statistic), found.df)}

def moody(frame):
    y = frame["y"].mean()
    if y > 2.2:
        raise RuntimeError("too\\nlarge")
    if y > 2.0:
        warnings.warn("large")
        np.log(np.array(-1.0))
    if y < 1.8:
        return {"arm": (float("nan"), y)}
    return {"arm": (1.0, 0.5)}

def unsure(frame):
    y = frame["y"].mean()
    return {"arm": (y, [float("nan"), 0.0, 1e-13 * y, 1.2][int(1e6 * y) % 4])}

def leaves(frame):
    sys.exit(3)

def stopped(frame):
    raise KeyboardInterrupt

def draws(frame):
    return {"arm": np.random.normal() + random.random()}

def sees(frame):
    raise ValueError(",".join(map(str, frame.columns)))

number = 3.0
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module; what is imported from it is forgotten, and Python's path put back."""
    (tmp_path / "rivals_of_test.py").write_text(CODE)
    (tmp_path / "helper_of_rivals.py").write_text("ADDED = 1\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("rivals_of_test", "helper_of_rivals"):
        sys.modules.pop(name, None)


def written(place: Path, *names: str, more: str = "", module: str = "rivals_of_test") -> Path:
    """A study file whose methods are functions of the module, called as the functions."""
    methods = [
        f'\n[[method]]\nname = "{n.strip()}"\nestimator = "function"\nfunction = "{module}:{n.strip()}"\n'
        for n in names
    ]
    path = place / "study.toml"
    path.write_text(STUDY + "".join(methods) + more)
    return path


def ran(
    place: Path, *names: str, jobs: int = 1, out: str = "r", more: str = "", module: str = "rivals_of_test"
) -> nl.Results:
    study = nl.Study.from_toml(written(place, *names, more=more, module=module))
    return study.run(out=place / out, jobs=jobs, allow_code=True)


# -- consent -----------------------------------------------------------------------------------------------------------------


def test_code_needs_consent_and_nothing_is_imported_before(place: Path) -> None:
    trace = place / "imported"
    (place / "rivals_of_test.py").write_text(
        f"open({str(trace)!r}, 'w').close()\ndef f(frame): return {{'arm': 1.0}}\n"
    )
    path = written(place, "f")
    refusal = (
        'method.f.function = "rivals_of_test:f": runs Python code of the module rivals_of_test, which needs your consent; read '
        "that code, then add --allow-code (in Python: allow_code=True)"
    )
    with pytest.raises(StudyError) as caught:
        nl.Study.from_toml(path).run(out=place / "r")
    assert caught.value.problems == [refusal]
    done = CliRunner().invoke(app, ["run", str(path), "--out", str(place / "r")])
    assert (done.exit_code, done.stderr.strip()) == (2, f"error: {refusal}")
    arguments = ["solve", str(path), "--power", "0.8", "--over", "clusters", "--out", str(place / "s")]
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert not trace.exists()
    assert not (place / "r").exists()
    assert CliRunner().invoke(app, ["run", str(path), "--out", str(place / "r"), "--allow-code"]).exit_code == 0
    assert trace.exists()


def test_stored_results_are_read_without_the_module(place: Path) -> None:
    results = ran(place, "t_test", "moody")
    summary = results.summary()
    (place / "rivals_of_test.py").unlink()
    again = nl.Results(place / "r")
    assert again.missing() == 0
    pd.testing.assert_frame_equal(again.summary(), summary)
    assert len(again.failures()) == len(results.failures())
    page = again.report().read_text()
    assert "the Python function rivals_of_test:t_test" in page
    assert "RuntimeError: too large" in page
    assert len(again.data(0, 3)) == 50


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t_tset", 'must be a function of rivals_of_test, which has no t_tset; did you mean "t_test"?'),
        ("number", "must be a function, and number is a float; name a function of rivals_of_test"),
    ],
)
def test_what_is_no_function_is_refused(place: Path, name: str, text: str) -> None:
    with pytest.raises(StudyError) as caught:
        ran(place, name)
    assert caught.value.problems == [f'method.{name}.function = "rivals_of_test:{name}": {text}']
    assert not (place / "r").exists()


def test_a_module_that_is_not_there_is_refused(place: Path) -> None:
    with pytest.raises(StudyError) as caught:
        ran(place, "f", module="package_of_none.rivals")
    (line,) = caught.value.problems
    assert f"there is no module package_of_none.rivals in {place}" in line
    assert line.endswith("correct the name, or put package_of_none/rivals.py beside the study file")


@pytest.mark.parametrize(
    ("source", "said"),
    [("def f(:\n", "SyntaxError: invalid syntax"), ("import nowhere_at_all\n", "ModuleNotFoundError: No module named")],
)
def test_a_module_that_cannot_be_imported_is_refused(place: Path, source: str, said: str) -> None:
    (place / "rivals_of_test.py").write_text(source)
    with pytest.raises(StudyError) as caught:
        ran(place, "f")
    (line,) = caught.value.problems
    assert f"importing rivals_of_test raised {said}" in line
    assert line.endswith("; correct it")


# -- results -----------------------------------------------------------------------------------------------------------------


def test_a_function_gives_what_it_gives_on_the_frame(place: Path) -> None:
    results = ran(place, "t_test", more='\n[[method]]\nname = "reml"\n')
    rows = results.replicates(method="t_test").set_index("replicate")
    for replicate in range(30):
        frame = results.data(0, replicate)
        means = frame.groupby("school")[["arm", "y"]].mean()
        test = stats.ttest_ind(*(means.loc[means["arm"] == k, "y"] for k in (1, 0)))
        row = rows.loc[replicate]
        assert row["estimate.arm"] / row["se.arm"] == pytest.approx(test.statistic, rel=1e-12)
        assert row["df.arm"] == test.df == 8
    rejected = 2 * stats.t.sf(np.abs(rows["estimate.arm"] / rows["se.arm"]), 8) <= 0.05
    power = results.summary().query("method == 't_test' and measure == 'power' and subset == 'all'")
    assert power["estimand"].tolist() == ["arm"], "what a function never estimates has no measures"
    assert power["value"].item() == rejected.mean()
    assert rows[["message", "estimate.Intercept", "estimate.var:residual"]].isna().all(axis=None)
    assert (results.replicates(method="reml")[["message", "warnings"]]).isna().all(axis=None)


def test_workers_do_not_matter(place: Path) -> None:
    one = ran(place, "t_test", "draws", jobs=1, out="one").replicates()
    two = ran(place, "t_test", "draws", jobs=2, out="two").replicates()
    pd.testing.assert_frame_equal(one, two)
    drawn = one.loc[one["method"] == "draws", "estimate.arm"]
    assert drawn.nunique() == 30


def test_global_generators_are_put_back(place: Path) -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.random(), np.random.normal()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    ran(place, "draws")
    assert (random.random(), np.random.normal()) == expected  # noqa: NPY002


def test_a_function_sees_what_an_analyst_sees(place: Path) -> None:
    assert set(ran(place, "sees").failures()["message"].str.partition(" (line")[0]) == {"ValueError: school,arm,y"}


def test_estimates_without_standard_errors_have_no_tests(place: Path) -> None:
    measures = set(ran(place, "draws").summary().query("estimand == 'arm'")["measure"])
    assert {"bias", "empse", "rmse"} <= measures
    assert not measures & {"power", "cover", "modelse"}


def test_a_standard_error_that_is_none_leaves_the_estimate(place: Path) -> None:
    """nan, 0 or rounding: no test, counted as failed inference; the estimate is in the bias all the same."""
    results = ran(place, "unsure")
    rows = results.replicates()
    means = np.array([results.data(0, r)["y"].mean() for r in range(30)])
    without = (1e6 * means).astype(int) % 4 < 3
    assert 4 < without.sum() < 28
    np.testing.assert_allclose(rows["estimate.arm"], means)
    assert (rows["status"] == "ok").all()
    np.testing.assert_array_equal(rows["inference"] == "no_df", without)
    np.testing.assert_array_equal(rows["df.arm"].isna(), without)
    summary = results.summary().query("method == 'unsure' and subset == 'all'").set_index("measure")
    found = summary[summary["estimand"].isin(["arm", ""])]
    assert found.loc["bias", "n"] == 30
    np.testing.assert_allclose(found.loc["mean", "value"], means.mean())
    for measure in ("power", "cover"):
        assert found.loc[measure, "n"] == 30 - without.sum()
        assert found.loc[measure, "missing"] == without.sum()
    assert found.loc["power", "value"] == (means[~without] / 1.2 > stats.norm.ppf(0.975)).mean()
    assert found.loc["inference_failed", "value"] == without.sum() / 30


# -- failures ----------------------------------------------------------------------------------------------------------------


def test_exceptions_and_warnings_are_counted_and_kept(
    place: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    results = ran(place, "moody")
    means = [results.data(0, r)["y"].mean() for r in range(30)]
    expected = {
        r: "RuntimeError: too large (line 19)"
        if y > 2.2
        else "ValueError: the estimate of arm is nan; it must be finite"
        for r, y in enumerate(means)
        if y > 2.2 or y < 1.8
    }
    assert 4 < len(expected) < 28
    failures = results.failures()
    assert list(failures.columns) == ["condition", "method", "replicate", "status", "message"]
    assert dict(zip(failures["replicate"], failures["message"], strict=True)) == expected
    assert set(failures["status"]) == {"method_error"}
    rows = results.replicates().set_index("replicate")
    warned = {r for r, y in enumerate(means) if 2.0 < y <= 2.2}
    assert {r for r in rows.index if rows.loc[r, "warnings"] == 2} == warned
    assert rows["warnings"].sum() == 2 * len(warned)
    failed = results.summary().query("measure == 'failed'")
    assert failed["value"].item() == len(expected) / 30
    assert capfd.readouterr().err == ""
    assert not list(recwarn)


def test_the_summary_counts_messages_with_the_first_replicate(place: Path) -> None:
    results = ran(place, "moody")
    failures = results.failures()
    large = failures[failures["message"].str.startswith("RuntimeError")]
    warned = results.replicates().query("warnings > 0")
    done = CliRunner().invoke(app, ["summary", str(place / "r")])
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert f"moody: {len(failures)} of 30 replicates failed, see results.failures()" in lines
    first = int(large["replicate"].iloc[0])
    wanted = f"{len(large)} x RuntimeError: too large (line 19) (first: condition 0, replicate {first})"
    assert wanted in lines
    assert said_lines(results.said()[0])[-1] == (
        f"moody: {2 * len(warned)} warnings in {len(warned)} of 30 replicates (first: condition 0, replicate "
        f"{int(warned['replicate'].iloc[0])})"
    )


def test_a_function_that_exits_fails_and_the_run_goes_on(place: Path) -> None:
    results = ran(place, "leaves", "t_test", jobs=2)
    assert results.missing() == 0
    assert set(results.failures()["message"].str.partition(" (line")[0]) == {"SystemExit: 3"}
    assert results.summary().query("method == 'leaves' and measure == 'failed'")["value"].item() == 1


def test_an_interrupt_ends_the_run(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ran(place, "stopped")


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, "the function gave a NoneType; it must give {term: (estimate, se, df)}"),
        ([1.0], "the function gave a list; it must give {term: (estimate, se, df)}"),
        ({}, "the function gave no term; it must give {term: (estimate, se, df)}"),
        ({"w": 1.0}, "the function gave 'w', which is no term of its formula: Intercept, x, x:z"),
        ({3: 1.0}, "the function gave 3, which is no term of its formula: Intercept, x, x:z"),
        ({"x": (1.0, 2.0, 3.0, 4.0)}, "x has 4 values; it must be (estimate, se, df), (estimate, se) or an estimate"),
        ({"x": ()}, "x has 0 values; it must be (estimate, se, df), (estimate, se) or an estimate"),
        ({"x": "1"}, "the estimate of x is a str; it must be a number"),
        ({"x": True}, "the estimate of x is a bool; it must be a number"),
        ({"x": (None, 1.0)}, "the estimate of x is a NoneType; it must be a number"),
        ({"x": np.nan}, "the estimate of x is nan; it must be finite"),
        ({"x": (-np.inf, 1.0)}, "the estimate of x is -inf; it must be finite"),
        ({"x": (1.0, -1.0)}, "the standard error of x is negative; it must be 0 or more"),
        ({"x": (1.0, 1.0, 0)}, "the df of x are 0; they must be above 0, or None for a z test"),
    ],
)
def test_results_of_a_wrong_shape_are_failures(result: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        read_result(result, ("Intercept", "x", "x:z"))
    assert str(caught.value) == text


def test_results_of_every_right_shape() -> None:
    given: Any = {"x": (1.0, np.inf), "z:x": (1.0, 1.0, np.nan)}
    nan = np.nan
    np.testing.assert_array_equal(read_result(given, ("x", "x:z")), [[1, nan, np.inf], [1, 1, nan]])
    given = {"x": (np.float32(1), np.int64(2), np.inf), "z:x": [1, 2], "Intercept": np.array([1.0, 2.0, 7.0])}
    found = read_result(given, ("Intercept", "x", "x:z"))
    np.testing.assert_array_equal(found, [[1, 2, 7], [1, 2, np.inf], [1, 2, np.inf]])
    np.testing.assert_array_equal(read_result({"x": 1}, ("x",)), [[1, np.nan, np.nan]])
    np.testing.assert_array_equal(read_result({"x": (1, None, None)}, ("x",)), [[1, np.nan, np.nan]])
    np.testing.assert_array_equal(read_result({"x": (1, 0.5, None)}, ("x",)), [[1, 0.5, np.inf]])


def test_long_messages_are_cut() -> None:
    def shout() -> None:
        raise RuntimeError("x" * 10_000)

    found = attempt(shout, file=__file__)
    assert found.message is not None
    assert len(found.message) == MAX_MESSAGE
    assert found.message.startswith("RuntimeError: xxx")


def test_messages_are_printable_whatever_they_say() -> None:
    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    def fail(error: Exception) -> str | None:
        def call() -> None:
            raise error

        return attempt(call).message

    assert fail(ValueError("\x1b[31m red \udcff\n two")) == "ValueError: ?[31m red ? two"
    assert fail(Mute()) == "Mute"
    assert fail(ValueError()) == "ValueError"


# -- identity ----------------------------------------------------------------------------------------------------------------


def test_edited_code_is_refused_and_never_served_from_memory(place: Path) -> None:
    """The old module is still in this process (and in its workers): what runs is what the digest names."""
    source = place / "rivals_of_test.py"
    source.write_text("def f(frame):\n    return {'arm': 1.0}\n")
    first = ran(place, "f", jobs=2)
    stamp = source.stat()
    source.write_text("def f(frame):\n    return {'arm': 2.0}\n")
    os.utime(
        source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns)
    )  # as long, as old: a cached compilation would pass for it
    with pytest.raises(
        RefusedError, match=r"method\.f\.source: stored '[0-9a-f]{64}', now .*another name, or use --out"
    ):
        ran(place, "f", jobs=2)
    done = CliRunner().invoke(app, ["run", str(place / "study.toml"), "--out", str(place / "r"), "--allow-code"])
    assert done.exit_code == 3
    second = ran(place, "f", jobs=2, out="other")
    assert set(first.replicates()["estimate.arm"]) == {1.0}
    assert set(second.replicates()["estimate.arm"]) == {2.0}
    ran(place, "f", jobs=1, out="third")
    assert set(nl.Results(place / "third").replicates()["estimate.arm"]) == {2.0}


def test_modules_of_one_name_in_two_folders(place: Path) -> None:
    """Each study runs the module beside it, also where another one of the same source or name was imported before."""
    for name, value in (("a", 1.0), ("b", 2.0), ("c", 1.0)):
        (place / name).mkdir()
        (place / name / "helper_of_rivals.py").write_text("")
        (place / name / "rivals_of_test.py").write_text(f"def f(frame):\n    raise ValueError({value}, __file__)\n")
    for name, value in (("a", 1.0), ("b", 2.0), ("c", 1.0), ("a", 1.0)):
        for jobs in (1, 2):
            results = ran(place / name, "f", jobs=jobs, out=f"r{jobs}")
            file = str(place / name / "rivals_of_test.py")
            assert set(results.failures()["message"]) == {f"ValueError: ({value}, {file!r}) (line 2)"}


def test_code_that_changes_while_a_study_runs(place: Path) -> None:
    """What was loaded goes on; what was not is refused."""
    source = place / "rivals_of_test.py"
    source.write_text("def f(frame):\n    open(__file__, 'a').write('# once more')\n    return {'arm': 1.0}\n")
    assert set(ran(place, "f").replicates()["status"]) == {"ok"}
    with pytest.raises(RefusedError, match="source: stored"):
        ran(place, "f")
    with pytest.raises(StudyError) as caught:
        load_function("f", "rivals_of_test:f", "0" * 64)
    assert caught.value.problems == [
        'method.f.function = "rivals_of_test:f": its module changed while the study ran; run the study again'
    ]


def test_a_function_that_was_renamed_is_refused(place: Path) -> None:
    ran(place, "t_test")
    study = written(place, "t_test").read_text().replace("rivals_of_test:t_test", "rivals_of_test:draws")
    (place / "study.toml").write_text(study)
    with pytest.raises(RefusedError, match=r"stored 'rivals_of_test:t_test', now 'rivals_of_test:draws'"):
        nl.Study.from_toml(place / "study.toml").run(out=place / "r", jobs=1, allow_code=True)


def test_a_run_goes_on_and_is_extended(place: Path) -> None:
    ran(place, "t_test", "moody")
    longer = nl.Study.from_toml(place / "study.toml").run(out=place / "r", jobs=1, allow_code=True, replications=70)
    whole = nl.Study.from_toml(place / "study.toml").run(out=place / "w", jobs=1, allow_code=True, replications=70)
    pd.testing.assert_frame_equal(longer.replicates(), whole.replicates())


def test_other_studies_have_no_new_columns(two_arms: dict[str, Any], tmp_path: Path) -> None:
    rows = nl.Study.from_dict(two_arms).run(out=tmp_path, replications=3, jobs=1).replicates()
    assert not {"message", "warnings", "selected"} & set(rows.columns)


def test_a_module_in_a_package_with_relative_imports(place: Path) -> None:
    package = place / "package_of_rivals"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("VALUE = 4.0\n")
    (package / "one.py").write_text("from .base import VALUE\ndef f(frame):\n    return {'arm': VALUE}\n")
    try:
        results = ran(place, "f", module="package_of_rivals.one", jobs=2)
        assert set(results.replicates()["estimate.arm"]) == {4.0}
    finally:
        for name in [name for name in sys.modules if name.startswith("package_of_rivals")]:
            del sys.modules[name]


def test_a_search_runs_code_that_is_allowed(place: Path) -> None:
    (place / "rivals_of_test.py").write_text(
        "def f(frame):\n    n = frame['school'].nunique()\n    return {'arm': (frame['y'].std() * 0 + n, 8.0)}\n"
    )
    study = nl.Study.from_toml(written(place, "f"))
    words: Any = {"power": 0.8, "over": "clusters", "between": (4, 40), "max_replications": 500, "jobs": 1}
    with pytest.raises(StudyError, match="needs your consent"):
        study.solve(**words, out=place / "no")
    solved = study.solve(**words, out=place / "yes", allow_code=True)
    assert solved.solutions[0].values["clusters"] == 16, "the first even number above 1.96 x 8"
