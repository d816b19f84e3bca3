"""1,000 MixedLM fits as a study against a plain joblib loop over the same data, same workers; prints seconds and their ratio.

run: OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/benchmarks/statsmodels_loop.py [FITS] [JOBS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import joblib
import pandas as pd

import nestlab as nl

ROOT = Path(__file__).parents[2]


def loop_fit(frame: pd.DataFrame) -> float:
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = frame.assign(one=1.0)[["one", "x"]].to_numpy()
        return float(MixedLM(frame["y"].to_numpy(), X, groups=frame["school"].to_numpy(), exog_re=X).fit().llf)


def main() -> None:
    fits = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    tables = nl.Study.from_toml(ROOT / "studies" / "against_statsmodels.toml").file.to_dict()
    tables |= {"grid": {}, "method": tables["method"][1:]}
    study = nl.Study.from_dict(tables)
    frames = [study.data(0, r) for r in range(fits)]
    joblib.Parallel(jobs)(
        joblib.delayed(loop_fit)(f) for f in frames[: 2 * jobs]
    )  # workers and imports are warm for both
    ratios = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            results = study.run(out=folder, replications=fits, jobs=jobs)
            ours = time.perf_counter() - start
            deviance = results.replicates()["deviance"]
        start = time.perf_counter()
        plain = joblib.Parallel(jobs)(joblib.delayed(loop_fit)(f) for f in frames)
        theirs = time.perf_counter() - start
        assert abs(deviance + 2 * pd.Series(plain)).max() < 1e-3
        ratios.append(ours / theirs)
        print(f"study {ours:.1f} s, plain loop {theirs:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
