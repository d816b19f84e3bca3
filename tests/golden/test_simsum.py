"""Published simulations against what Stata's simsum, R's rsimsum and R's simhelpers print for them.

The data are others' and stay where they are: `shared/measures` beside the checkout, or the folder that NESTLAB_MEASURES
names. Tests skip where there are none.

MCSEs agree with Stata to 1e-3 (relprec to 5e-4, the others to 3e-7); that of relprec equals rsimsum's.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import t as student

from nestlab.measure.performance import Estimates, MethodResults, summarise

MEASURES = Path(os.environ.get("NESTLAB_MEASURES", Path(__file__).resolve().parents[3] / "shared" / "measures"))
TRUTH = 0.5

pytestmark = pytest.mark.skipif(not (MEASURES / "MIsim.csv").exists(), reason=f"no published data at {MEASURES}")


def results(name, estimates, **given):
    size = len(estimates.estimate)
    none = np.zeros(size, bool)
    return MethodResults(name, given.get("replicate", np.arange(size)), ~none, none, none, {"b": estimates})


def measures(methods, mcse):
    table = summarise(methods, {"b": TRUTH}, mcse=mcse)
    return table[(table["estimand"] == "b") & (table["subset"] == "all")].set_index(["method", "measure"])


@pytest.fixture(scope="module")
def misim():
    frame = pd.read_csv(MEASURES / "MIsim.csv")
    methods = []
    for name in ("CC", "MI_T", "MI_LOGT"):
        rows = frame[frame["method"] == name]
        estimates = Estimates(rows["b"].to_numpy(), rows["se"].to_numpy(), np.inf)
        methods.append(results(name, estimates, replicate=rows["dataset"].to_numpy()))
    return methods


@pytest.fixture(scope="module")
def t_tests():
    """Estimates with the se and df that give the printed interval and p value: the data hold neither."""
    frame = pd.read_csv(MEASURES / "t_res.csv")
    half = (frame["upper_bound"] - frame["lower_bound"]).to_numpy() / 2
    x = frame["est"].to_numpy()

    def gap(df, ratio, p):
        return np.log(2 * student.sf(ratio * student.isf(0.025, df), df) / p)

    arguments = zip(np.abs(x) / half, frame["p_val"], strict=True)
    df = np.array([brentq(gap, 20, 500, args=pair) for pair in arguments])
    return frame, results("t", Estimates(x, half / student.isf(0.025, df), df))


def test_misim_against_stata(misim):
    printed = pd.read_csv(MEASURES / "MIsim_res_stata.csv")
    got = measures(misim, "morris")
    assert len(printed) == 24
    for line in printed.itertuples():
        ours = got.loc[(line.method, line.stat)]
        assert ours["value"] == pytest.approx(line.est, abs=1e-5), line
        assert ours["mcse"] == pytest.approx(line.mcse, rel=1e-3), line


def test_misim_against_rsimsum(misim):
    printed = pd.read_csv(MEASURES / "expected_MIsim.csv")
    got = measures(misim, "morris")
    names = {"thetamean": "mean", "thetamedian": "median", "rbias": "relbias"}
    percent = {"rbias": 100}
    compared = 0
    for line in printed[~printed["stat"].isin(["nsim", "se2mean", "se2median"])].itertuples():
        ours = got.loc[(line.method, names.get(line.stat, line.stat))]
        if np.isfinite(line.est):
            assert ours["value"] == pytest.approx(percent.get(line.stat, 1) * line.est, rel=1e-8), line
            compared += 1
        if np.isfinite(line.mcse):
            assert ours["mcse"] == pytest.approx(percent.get(line.stat, 1) * line.mcse, rel=1e-7), line
            compared += 1
    assert compared == 64


def test_misim_distribution_free(misim):
    """Only empse, relerror and relprec assume normality in Table 6; these estimates have a kurtosis of 3.3 to 3.6."""
    normal, free = measures(misim, "morris")["mcse"], measures(misim, "distribution-free")["mcse"]
    ratio = (free / normal)[normal > 0]
    assumed = ratio.index.get_level_values("measure").isin(["empse", "relerror", "relprec"])
    assert (ratio[~assumed] == 1).all()
    assert ratio[assumed].between(1.02, 1.15).all()


def test_t_res_against_simhelpers(t_tests):
    frame, method = t_tests
    printed = pd.read_csv(MEASURES / "expected_t_res_absolute.csv").iloc[0]
    got = measures([method], "distribution-free").loc["t"]
    for measure, stat in [("bias", "bias"), ("empse", "stddev"), ("mse", "mse"), ("rmse", "rmse")]:
        assert got.loc[measure, "value"] == pytest.approx(printed[stat], rel=1e-9), measure
    assert got.loc["empse", "value"] ** 2 == pytest.approx(printed["var"], rel=1e-9)
    assert got.loc["bias", "mcse"] == pytest.approx(printed["bias_mcse"], rel=1e-9)
    # simhelpers jackknifes stddev and expands mse in moments: O(1/N) from here.
    for measure, stat in [("empse", "stddev"), ("mse", "mse")]:
        assert got.loc[measure, "mcse"] == pytest.approx(printed[f"{stat}_mcse"], rel=2e-3), measure
    # It jackknifes sqrt(bias^2 + s^2), divisor N - 1, about an rmse with divisor N: that offset adds 22 %.
    size = len(frame)
    offset = np.sqrt(got.loc["bias", "value"] ** 2 + got.loc["empse", "value"] ** 2) - got.loc["rmse", "value"]
    jackknife = np.sqrt(printed["rmse_mcse"] ** 2 - (size - 1) * offset**2)
    assert got.loc["rmse", "mcse"] == pytest.approx(jackknife, rel=2e-3)


def test_t_res_intervals_and_tests_against_simhelpers(t_tests):
    frame, method = t_tests
    coverage = pd.read_csv(MEASURES / "expected_t_res_coverage.csv").iloc[0]
    rejection = pd.read_csv(MEASURES / "expected_t_res_rejection.csv").iloc[0]
    got = measures([method], "distribution-free").loc["t"]
    assert got.loc["cover", ["value", "mcse"]].tolist() == pytest.approx(
        [coverage["coverage"], coverage["coverage_mcse"]], rel=1e-9
    )
    assert got.loc["width", ["value", "mcse"]].tolist() == pytest.approx(
        [coverage["width"], coverage["width_mcse"]], rel=1e-9
    )
    assert got.loc["below", "value"] == np.mean(frame["upper_bound"] < TRUTH)
    assert got.loc["above", "value"] == np.mean(frame["lower_bound"] > TRUTH)
    assert got.loc["power", ["value", "mcse"]].tolist() == pytest.approx(
        [rejection["rej_rate_05"], rejection["rej_rate_mcse_05"]], rel=1e-9
    )


@pytest.mark.parametrize("level", ["01", "10"])
def test_t_res_rejection_at_other_levels(t_tests, level):
    _, method = t_tests
    rejection = pd.read_csv(MEASURES / "expected_t_res_rejection.csv").iloc[0]
    part = method.estimands["b"]
    again = MethodResults(
        "t", method.replicate, method.converged, method.singular, method.failed, {"b": part}, alpha=int(level) / 100
    )
    power = measures([again], "distribution-free").loc[("t", "power")]
    assert power["value"] == pytest.approx(rejection[f"rej_rate_{level}"], rel=1e-12)
    assert power["mcse"] == pytest.approx(rejection[f"rej_rate_mcse_{level}"], rel=1e-9)
