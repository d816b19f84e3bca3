"""How long a report takes to open: 100 designs, 27,650 measures, from navigation start to the table being ready.

python tests/benchmarks/report_opens.py [--times 7]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import nestlab as nl

STUDY: dict[str, Any] = {
    "name": "many",
    "seed": 4,
    "replications": 60,
    "grid": {
        "clusters": [6, 10, 16, 24, 40],
        "cluster_size": [5, 10, 20, 40, 80],
        "icc": [0.05, 0.3],
        "truth.fixed.x": [0.0, 0.2],
    },
    "truth": {
        "formula": "y ~ 1 + x + (1 + x | school)",
        "fixed": {"Intercept": 0},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2, "x": 0.05}}},
    },
    "predictors": {"x": {"level": 1, "distribution": "normal"}},
}


def opened(driver: Any, address: str) -> tuple[int, int]:
    """Milliseconds and rows of one opening."""
    driver.get("about:blank")
    driver.get(address)
    script = "const d = document.documentElement.dataset; return d.ready ? [Number(d.ready), Number(d.rows)] : null"
    while not (found := driver.execute_script(script)):
        time.sleep(0.01)
    return int(found[0]), int(found[1])


def main() -> None:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        page = nl.Study.from_dict(STUDY).run(out=Path(folder) / "many").report()
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            found = [opened(driver, page.as_uri()) for _ in range(times)]
        finally:
            driver.quit()
        spent = [milliseconds for milliseconds, _ in found]
        print(
            f"{found[0][1]:,} rows, {page.stat().st_size / 1e6:.1f} MB; first {spent[0]} ms, median of {times} ", end=""
        )
        print(f"{statistics.median(spent):.0f} ms, most {max(spent)} ms")


if __name__ == "__main__":
    main()
