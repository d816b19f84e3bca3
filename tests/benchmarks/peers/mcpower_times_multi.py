"""Microseconds a replicate of MCPower, with several grouping factors and binary outcomes; prints CSV: work,us (median of 3).

needs: pip install mcpower (in an environment of its own)
run:   taskset -c 0 python mcpower_times_multi.py
"""

import statistics
import time
import warnings

warnings.simplefilter("ignore")
from mcpower import MCPower, _engine  # noqa: E402  (it warns when it is loaded)

_engine.set_n_threads(1)


def crossed(subjects, items, slopes):
    random = "1 + cond" if slopes else "1"
    m = MCPower(f"y = cond + ({random}|subject) + ({random}|item)", family="lme")
    m.set_effects("cond=0.1")
    m.set_variable_type("cond=binary")
    extra = {"random_slopes": ["cond"], "slope_variance": 0.04, "slope_intercept_corr": 0.6} if slopes else {}
    m.set_cluster("subject", ICC=0.1, n_clusters=subjects, **extra)
    m.set_cluster("item", ICC=0.1, n_clusters=items, **extra)
    return m, 2 * subjects * items


def nested():
    m = MCPower("y = z + (1|k/j)", family="lme")
    m.set_effects("z=0.3")
    m.set_variable_type("z=binary")
    m.set_cluster("k", ICC=0.15, n_clusters=20, cluster_level_vars=["z"])
    m.set_cluster("k:j", ICC=0.1, n_per_parent=4)
    return m, 800


def logit(x):
    m = MCPower("y = z + x + (1|g)" if x else "y = z + (1|g)", family="logit")
    m.set_effects("z=0.5, x=0.4" if x else "z=0.5")
    m.set_variable_type("z=binary")
    m.set_baseline_probability(0.4)
    m.set_cluster("g", ICC=0.16, n_clusters=30, cluster_level_vars=["z"])
    return m, 600


def bench(name, model, sims):
    m, rows = model
    m.set_max_failed_simulations(1.0)

    def go(n, seed):
        start = time.perf_counter()
        m.find_power(sample_size=rows, n_sims=n, seed=seed, progress_callback=False, verbose=False)
        return time.perf_counter() - start

    go(50, 1)
    slope = [(go(2 * sims, 10 + k) - go(sims, 20 + k)) / sims * 1e6 for k in range(3)]
    print(f"{name},{statistics.median(slope):.1f}", flush=True)


bench("crossed_intercepts_30x10x2", crossed(30, 10, False), 2000)
bench("crossed_maximal_30x10x2", crossed(30, 10, True), 300)
bench("crossed_maximal_50x20x2", crossed(50, 20, True), 150)
bench("nested_20x4x10", nested(), 3000)
bench("logit_crt_30x20", logit(False), 600)
bench("logit_x_30x20", logit(True), 600)
