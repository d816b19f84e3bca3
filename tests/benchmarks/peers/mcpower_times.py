"""Microseconds per replicate of MCPower (the fastest engine known) on the same designs; prints CSV: work,us (median of 5).

needs: pip install mcpower (in an environment of its own)
run:   taskset -c 0 python mcpower_times.py
"""

import statistics
import time
import warnings

warnings.simplefilter("ignore")
from mcpower import MCPower, _engine  # noqa: E402  (it warns when it is loaded)

_engine.set_n_threads(1)


def model(slope, clusters):
    m = MCPower("y = x + (1 + x|g)" if slope else "y = x + (1|g)", family="lme")
    m.set_effects("x=0.25" if slope else "x=0.1")
    extra = {"random_slopes": ["x"], "slope_variance": 0.2, "slope_intercept_corr": 0.3} if slope else {}
    m.set_cluster("g", ICC=0.3, n_clusters=clusters, **extra)
    m.set_max_failed_simulations(1.0)
    return m


def bench(name, m, rows, sims=10_000):
    def go(n, seed):
        m.find_power(sample_size=rows, target_test="x", n_sims=n, seed=seed, progress_callback=False, verbose=False)

    go(200, 1)
    times = []
    for seed in range(5):
        start = time.perf_counter()
        go(sims, 100 + seed)
        times.append(time.perf_counter() - start)
    print(f"{name},{statistics.median(times) / sims * 1e6:.2f}", flush=True)


bench("intercept_20x50", model(False, 20), 1000)
bench("slope_20x50", model(True, 20), 1000)
bench("intercept_100x20", model(False, 100), 2000)
bench("slope_100x20", model(True, 100), 2000)
