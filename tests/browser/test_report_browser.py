"""The report in a headless Chromium: opened, filtered, sorted, copied out, printed; and it asks the network for nothing.

Without a Chromium the tests are skipped; with NESTLAB_BROWSER=required they fail instead.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nestlab as nl

TITLE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"> \u2028 \'two\' & "arms"'
STUDY: dict[str, Any] = {
    "name": "browsed",
    "title": TITLE,
    "seed": 21,
    "replications": 150,
    "grid": {"clusters": [8, 20, 40], "truth.fixed.arm": [0.0, 1.0]},
    "design": {"cluster_size": 6},
    "truth": {
        "formula": "y ~ 1 + arm + x + (1 + x | school)",
        "fixed": {"Intercept": 2, "arm": 0.5, "x": 0.3},
        "residual_variance": 1,
        "random": {"school": {"variance": {"Intercept": 0.2, "x": 0.1}}},
    },
    "predictors": {
        "arm": {"level": 2, "distribution": "balanced"},
        "x": {"level": 1, "distribution": "normal"},
    },
    "method": [{"name": "reml", "df": ["z", "satterthwaite"]}, {"name": "ml", "reml": False}],
}
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--window-size=1280,900",
)


def chromium() -> tuple[str, str]:
    """Browser and driver; skips, or fails where they are required, if they are not both there."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    reason = "needs chromium and chromedriver on the path"
    if os.environ.get("NESTLAB_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> nl.Results:
    chromium()
    with pytest.MonkeyPatch.context() as patch:  # the plots have tests of their own
        patch.setattr("nestlab.show.report.figures.applicable", lambda results: ["power", "convergence"])
        found = nl.Study.from_dict(STUDY).run(out=tmp_path_factory.mktemp("results") / "browsed", jobs=1)
        found.report()
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    program, driver = chromium()
    options = Options()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(executable_path=driver))
    downloads = tmp_path_factory.mktemp("downloads")
    made.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    made.downloads = downloads
    yield made
    made.quit()


@pytest.fixture
def page(browser: Any, results: nl.Results) -> Any:
    """The report, opened anew, its table ready; the logs of what was before are emptied."""
    browser.get_log("browser"), browser.get_log("performance")
    browser.get((results.folder / "report.html").as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"))
    return browser


def wait(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail("waited too long")


def run(page: Any, script: str, *arguments: Any) -> Any:
    return page.execute_script(script, *arguments)


def type_filter(page: Any, column: str, text: str) -> None:
    from selenium.webdriver.common.keys import Keys

    box = page.find_element("css selector", f'#grid input[data-column="{column}"]')
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE, text)


def choose(page: Any, column: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("css selector", f'#choices select[data-column="{column}"]')).select_by_visible_text(text)


def count(page: Any) -> int:
    return int(run(page, "return document.getElementById('count').textContent").split()[0].replace(",", ""))


def cells(page: Any, column: str) -> list[str]:
    """The cells of one column that are drawn, from the top."""
    script = """
        const names = [...document.querySelectorAll('#grid thead tr:first-child th')].map((th) => th.textContent.trim());
        const place = names.indexOf(arguments[0]);
        return [...document.querySelectorAll('#grid tbody tr:not(.space)')].map((tr) => tr.cells[place].textContent);
    """
    return list(run(page, script, column))


def header(page: Any, column: str) -> Any:
    buttons = page.find_elements("css selector", "#grid thead th button")
    return next(button for button in buttons if button.text.split("\n")[0].strip() == column)


def test_opens_without_a_request_or_an_error(page: Any, results: nl.Results) -> None:
    assert page.get_log("browser") == []
    assert run(page, "return performance.getEntriesByType('resource').map((e) => e.name)") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith("data:")] == [(results.folder / "report.html").as_uri()]
    assert run(page, "return document.querySelector('h1').textContent") == TITLE
    assert run(page, "return document.title").split() == TITLE.split()
    assert run(page, "return window.hacked ?? null") is None
    loaded = "return [...document.querySelectorAll('figure img')].map((i) => i.complete && i.naturalWidth > 100)"
    assert set(run(page, loaded)) == {True}


def test_policy_refuses_what_the_page_does_not_hold(page: Any) -> None:
    script = """
        const done = arguments[arguments.length - 1];
        document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective), { once: true });
        fetch('http://127.0.0.1:9/').catch(() => {});
    """
    assert page.execute_async_script(script) == "connect-src"
    run(
        page, "const s = document.createElement('script'); s.textContent = 'window.hacked = 2'; document.body.append(s)"
    )
    assert run(page, "return window.hacked ?? null") is None


def test_table_counts_and_filters_as_the_summary_does(page: Any, results: nl.Results) -> None:
    summary = results.summary()
    whole = summary[summary["subset"] == "converged"]
    assert count(page) == len(whole)
    choose(page, "measure", "power")
    choose(page, "estimand", "arm")
    assert count(page) == len(whole[(whole["measure"] == "power") & (whole["estimand"] == "arm")]) == 18
    type_filter(page, "method", "SATTER")
    assert count(page) == 6
    type_filter(page, "clusters", ">= 20")
    assert count(page) == 4
    type_filter(page, "clusters", "8..20")
    assert count(page) == 4
    power = whole[
        (whole["measure"] == "power") & (whole["estimand"] == "arm") & (whole["method"] == "reml/satterthwaite")
    ]
    type_filter(page, "clusters", "")
    type_filter(page, "value", ">0.5")
    assert count(page) == (power["value"] > 0.5).sum() > 0
    type_filter(page, "value", "no such thing")
    assert count(page) == 0
    page.find_element("id", "clear").click()
    assert count(page) == len(summary)


def test_sorting_by_mouse_and_keyboard(page: Any, results: nl.Results) -> None:
    from selenium.webdriver.common.keys import Keys

    choose(page, "measure", "power")
    choose(page, "estimand", "x")
    rows = results.summary().query("subset == 'converged' and measure == 'power' and estimand == 'x'")
    header(page, "value").click()
    shown = [float(text) for text in cells(page, "value")]
    assert shown == sorted(shown)
    assert len(shown) == len(rows)
    np.testing.assert_allclose(shown, rows["value"].sort_values(), atol=0.005)
    sorts = "return [...document.querySelectorAll('#grid th[aria-sort]')].map((th) => th.ariaSort)"
    assert run(page, sorts).count("ascending") == 1
    header(page, "value").send_keys(Keys.ENTER)
    shown = [float(text) for text in cells(page, "value")]
    assert shown == sorted(shown, reverse=True)
    assert run(page, sorts).count("descending") == 1
    header(page, "clusters").send_keys(Keys.SPACE)
    shown = [int(text) for text in cells(page, "clusters")]
    assert shown == sorted(shown) == sorted(rows["clusters"])
    header(page, "method").click()
    assert cells(page, "method") == sorted(rows["method"])


def test_rows_without_a_value_sort_last_either_way(page: Any, results: nl.Results) -> None:
    rows = results.summary().query("subset == 'converged'")
    assert rows["missing"].isna().any()
    for _ in range(2):
        header(page, "missing").click()
        assert cells(page, "missing")[0] != ""
    assert count(page) == len(rows)


def test_only_what_is_seen_is_drawn_and_all_can_be_reached(page: Any, results: nl.Results) -> None:
    page.find_element("id", "clear").click()
    total = len(results.summary())
    assert total > 2000
    assert len(cells(page, "n")) < 100
    run(page, "const s = document.getElementById('scroller'); s.scrollTop = s.scrollHeight")
    last = "return [...document.querySelectorAll('#grid tbody tr[aria-rowindex]')].at(-1).getAttribute('aria-rowindex')"
    wait(lambda: run(page, last) == str(total + 2))
    top = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
    assert abs(run(page, top, "#grid thead") - run(page, top, "#scroller")) < 3  # the header stays
    assert run(page, "return document.getElementById('grid').getAttribute('aria-rowcount')") == str(total + 2)


def test_downloaded_csv_is_the_summary(page: Any, results: nl.Results) -> None:
    page.find_element("id", "clear").click()
    page.find_element("id", "download").click()
    path: Path = page.downloads / "browsed-measures.csv"
    wait(path.exists)
    wait(lambda: path.read_text().count("\n") == len(results.summary()) + 1)
    read = pd.read_csv(io.StringIO(path.read_text()), keep_default_na=False, na_values={"value": [""], "mcse": [""]})
    summary = results.summary()
    assert list(read.columns) == [
        *("condition", "clusters", "truth.fixed.arm", "method", "estimand", "measure", "subset", "value", "mcse", "n"),
        *("lower", "upper", "missing", "bound_lower", "bound_upper"),
    ]
    for name in ("condition", "clusters", "truth.fixed.arm", "method", "estimand", "measure", "subset", "n"):
        assert read[name].tolist() == summary[name].tolist()
    for name in ("value", "mcse", "lower", "upper", "missing", "bound_lower", "bound_upper"):
        found = pd.to_numeric(read[name].replace("", None)).to_numpy(dtype=float)
        np.testing.assert_allclose(found, summary[name].to_numpy(dtype=float, na_value=np.nan), rtol=1e-5, atol=1e-12)


def test_copied_csv_holds_the_rows_shown(page: Any) -> None:
    choose(page, "measure", "power")
    choose(page, "estimand", "arm")
    script = """
        window.copied = null;
        const clipboard = { writeText: async (text) => { window.copied = text; } };
        Object.defineProperty(navigator, 'clipboard', { value: clipboard, configurable: true });
    """
    run(page, script)
    page.find_element("id", "copy").click()
    text = wait(lambda: run(page, "return window.copied"))
    assert len(text.splitlines()) == 1 + 18
    wait(lambda: "copied" in run(page, "return document.getElementById('count').textContent"))


def background(page: Any) -> list[int]:
    text = run(page, "return getComputedStyle(document.body).backgroundColor")
    return [int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(",")]


def test_dark_and_light_by_preference_and_by_button(page: Any) -> None:
    def prefer(scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    prefer("light")
    assert min(background(page)) > 200
    prefer("dark")
    assert max(background(page)) < 60
    page.find_element("id", "theme").click()
    assert min(background(page)) > 200
    page.find_element("id", "theme").click()
    assert max(background(page)) < 60
    prefer("light")
    run(page, "localStorage.clear()")


def test_nothing_is_wider_than_a_narrow_window(page: Any) -> None:
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert run(page, "return document.documentElement.scrollWidth") <= 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_printing_opens_what_is_folded_and_closes_it_again(page: Any) -> None:
    folded = "return document.querySelectorAll('details:not([open])').length"
    before = run(page, folded)
    run(page, "dispatchEvent(new Event('beforeprint'))")
    assert run(page, folded) < before
    assert 0 < len(cells(page, "n")) <= 100
    assert "of" in run(page, "return document.getElementById('cut').textContent")
    run(page, "dispatchEvent(new Event('afterprint'))")
    assert run(page, folded) == before
    printed = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
