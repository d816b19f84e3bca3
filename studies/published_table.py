"""The README's section "Published and exact results, reproduced", from the numbers of two studies.

run: python studies/published_table.py             (the section, from the numbers stored beside this file)
     python studies/published_table.py --numbers   (first the numbers, from results/maas_hox_2005 and results/two_arm_trial)
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm, t

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
HEADING = "## Published and exact results, reproduced"
GROUPS = (30, 50, 100)
LEVEL2 = ("var:group:Intercept", "var:group:x")

# noncoverage of 95 % intervals with 30, 50, 100 groups: Maas and Hox (2005), each of 9 designs x 1,000 replications
PUBLISHED = {
    "var:group:Intercept": ("intercept variance", (0.089, 0.074, 0.060)),
    "var:group:x": ("slope variance", (0.088, 0.072, 0.057)),
    "var:residual": ("residual variance", (0.058, 0.056, 0.049)),
    "Intercept": ("intercept", (0.064, 0.057, 0.053)),
    "x": ("x", (0.060, 0.057, 0.050)),
    "z": ("z", (0.052, 0.051, 0.050)),
    "x:z": ("xz", (0.056, 0.052, 0.050)),
}
PUBLISHED_N = 9000


def noncoverage(summary: pd.DataFrame) -> pd.DataFrame:
    """Noncoverage of every interval that the article counts, with MCSE and n, and the singular share of the fits."""
    rows = summary[(summary["subset"] == "all") & (summary["measure"] == "cover") & summary["estimand"].isin(PUBLISHED)]
    singular = summary[(summary["subset"] == "all") & (summary["measure"] == "singular")]
    share = singular.set_index(["condition", "method"])["value"].rename("singular")
    rows = rows.assign(noncoverage=1 - rows["value"]).join(share, on=["condition", "method"])
    columns = ["clusters", "cluster_size", "icc", "method", "estimand", "noncoverage", "mcse", "n", "singular"]
    return rows[columns].reset_index(drop=True)


def rejections(summary: pd.DataFrame) -> pd.DataFrame:
    """Power of the tests of the arm, with MCSE and n."""
    chosen = (summary["subset"] == "all") & (summary["measure"] == "power") & (summary["estimand"] == "arm")
    return summary[chosen][["clusters", "icc", "method", "value", "mcse", "n"]].reset_index(drop=True)


def averages(cells: pd.DataFrame, method: str = "independent") -> pd.DataFrame:
    """Means over the nine designs of each number of groups, by (clusters, estimand), as the article gives them."""
    groups = cells[cells["method"] == method].groupby(["clusters", "estimand"])
    return pd.DataFrame(
        {
            "noncoverage": groups["noncoverage"].mean(),
            "mcse": groups["mcse"].apply(lambda s: np.sqrt((s**2).sum()) / len(s)),
            "n": groups["n"].sum(),
        }
    )


def with_rigls(cells: pd.DataFrame, rigls: pd.DataFrame) -> pd.DataFrame:
    """The same cells, with RIGLS's noncoverage of the level-2 variances where groups have 5 rows."""
    cells = cells.set_index(["clusters", "cluster_size", "icc"]).copy()
    for row in rigls.to_dict("records"):
        for estimand in LEVEL2:
            where = (cells.index == (row["clusters"], row["cluster_size"], row["icc"])) & (
                cells["estimand"] == estimand
            )
            rate = row[estimand]
            values = {"noncoverage": rate, "mcse": np.sqrt(rate * (1 - rate) / row["n"]), "n": row["n"]}
            cells.loc[where & (cells["method"] == "independent"), list(values)] = list(values.values())
    return cells.reset_index()


def distances(cells: pd.DataFrame) -> pd.Series:
    """(nestlab - published) / joint MCSE, by (clusters, estimand)."""
    found = averages(cells)
    published = pd.Series({(g, e): rates[k] for e, (_, rates) in PUBLISHED.items() for k, g in enumerate(GROUPS)})
    published = published.reindex(found.index)
    spread = np.sqrt(published * (1 - published) / PUBLISHED_N + found["mcse"] ** 2)
    return (found["noncoverage"] - published) / spread


def exact_power(
    *, clusters: int, size: int, icc: float, effect: float, test: str, alpha: float = 0.05, points: int = 1000
) -> float:
    """Power of the two-arm trial by REML, its boundary included; residual variance 1.

    With lam = 1 + size icc / (1 - icc), MSB ~ lam chi2_a / a and MSW ~ chi2_b / b are independent, a = clusters - 2,
    b = clusters (size - 1), and independent of the estimate, which is normal with variance 4 lam / rows. Its squared standard
    error is 4 M / rows; M = MSB where MSB >= MSW, else (a MSB + b MSW) / (a + b). test: "z", "between-within" (t, a df),
    "satterthwaite" (t, a df; a + b at the boundary). points: midpoints of each chi-square's distribution.
    """
    a, b = clusters - 2, clusters * (size - 1)
    lam = 1 + size * icc / (1 - icc)
    middles = (np.arange(points) + 0.5) / points
    msb, msw = lam * chi2.ppf(middles, a)[:, None] / a, chi2.ppf(middles, b)[None, :] / b
    inside = msb >= msw
    m = np.where(inside, msb, (a * msb + b * msw) / (a + b))
    boundary_df = a if test == "between-within" else a + b
    level = 1 - alpha / 2
    critical = norm.ppf(level) if test == "z" else np.where(inside, t.ppf(level, a), t.ppf(level, boundary_df))
    half = critical * np.sqrt(m / lam)
    ncp = effect / np.sqrt(4 * lam / (clusters * size))
    return float((norm.sf(half - ncp) + norm.cdf(-half - ncp)).mean())


def _three(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _four(value: float, mcse: float) -> str:
    return f"{value:.4f} ({mcse:.4f})".replace("0.", ".")


def maas_hox_table(cells: pd.DataFrame, rigls: pd.DataFrame) -> list[str]:
    plain, mended = averages(cells), averages(with_rigls(cells, rigls))
    lines = [
        "| noncoverage | " + " | ".join(f"{g} groups: published | nestlab" for g in GROUPS) + " |",
        "| --- " * 7 + "|",
    ]
    for estimand, (label, published) in PUBLISHED.items():
        found = [plain.loc[(g, estimand)] for g in GROUPS]
        pairs = [f"{_three(p)} | {_four(f['noncoverage'], f['mcse'])}" for p, f in zip(published, found, strict=True)]
        lines.append(f"| {label} | " + " | ".join(pairs) + " |")
        if estimand in LEVEL2:
            found = [mended.loc[(g, estimand)] for g in GROUPS]
            pairs = [f"| {_four(f['noncoverage'], f['mcse'])}" for f in found]
            lines.append(f"| {label}, RIGLS | " + " | ".join(pairs) + " |")
    return lines


def two_arm_table(power: pd.DataFrame) -> list[str]:
    tests = {"z": "z", "between-within": "t, clusters - 2 df", "satterthwaite": "Satterthwaite"}
    heads = " | ".join(f"{label}: exact | nestlab" for label in tests.values())
    lines = [f"| clusters | icc | {heads} |", "| --- " * 8 + "|"]
    for (clusters, icc), rows in power.groupby(["clusters", "icc"]):
        by = rows.set_index("method")
        pairs = []
        for test in tests:
            exact = exact_power(clusters=clusters, size=20, icc=icc, effect=0.5, test=test)
            row = by.loc[f"reml/{test}"]
            pairs.append(f"{exact:.4f}".replace("0.", ".") + f" | {_four(row['value'], row['mcse'])}")
        lines.append(f"| {clusters} | {icc:g} | " + " | ".join(pairs) + " |")
    return lines


def section(cells: pd.DataFrame, rigls: pd.DataFrame, power: pd.DataFrame) -> str:
    """The whole section of the README."""
    lines = [
        *(HEADING, "", _about_maas_hox(cells), "", *maas_hox_table(cells, rigls), "", _differences(cells, rigls), ""),
        *(_about_two_arm(power), "", *two_arm_table(power)),
    ]
    return "\n".join([*lines, "", ""])


def _about_maas_hox(cells: pd.DataFrame) -> str:
    return _filled(
        f"""Noncoverage of 95 % Wald intervals: Maas and Hox (2005, Methodology 1(3), 86-92; 9 designs x 1,000 replications behind
        each figure) and nestlab ([studies/maas_hox_2005.toml](studies/maas_hox_2005.toml); the same designs x
        {int(cells["n"].min()):,}, REML, MCSE in brackets):"""
    )


def _differences(cells: pd.DataFrame, rigls: pd.DataFrame) -> str:
    """Where and why nestlab's figures are not the published ones."""
    independent = cells[(cells["method"] == "independent") & (cells["estimand"] == "x")]
    worst = independent.loc[independent["singular"].idxmax()]
    far = distances(with_rigls(cells, rigls)).abs()
    groups, effect = far.idxmax()
    gap = (averages(cells) - averages(cells, "correlated"))["noncoverage"].abs().max()
    where = f"{worst['clusters']:.0f} groups of {worst['cluster_size']:.0f} rows and icc {worst['icc']:g}"
    text = f"""They fitted by RIGLS, which lets a variance become negative; nestlab's are 0 or more, and an interval from 0
        upwards holds a small true value more often: with {where}, {100 * worst["singular"]:.0f} % of the fits are singular.
        In the rows "RIGLS" the designs of 5 rows are fitted by RIGLS too (`studies/maas_hox_rigls.py`,
        {rigls["n"].min():,} data sets or more each); then no figure is further than {np.ceil(10 * far.max()) / 10:.1f} joint
        MCSEs from theirs ({PUBLISHED[effect][0]}, {groups} groups"""
    if effect == "z":
        text += f"; t with {groups - 2} df says {_three(2 * t.sf(norm.ppf(0.975), groups - 2))}"
    return _filled(
        f"{text}). A covariance, 0 in truth, estimated as well moves no figure by more than {_three(np.ceil(1000 * gap) / 1000)}."
    )


def _about_two_arm(power: pd.DataFrame) -> str:
    study, each = "`studies/two_arm_trial.toml`", f"{int(power['n'].min()):,} replications"
    return f"Power of a two-arm trial, 20 rows a cluster, effect .5 ({study}, {each}), and its exact value:"


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 138, break_long_words=False, break_on_hyphens=False)


def stored() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    names = ("maas_hox_2005.csv", "maas_hox_rigls.csv", "two_arm_trial.csv")
    cells, rigls, power = (pd.read_csv(HERE / name) for name in names)
    return cells, rigls, power


def store(folder: Path) -> None:
    """Take the numbers from the results of both studies."""
    import nestlab as nl

    for name, take in (("maas_hox_2005", noncoverage), ("two_arm_trial", rejections)):
        numbers = take(nl.Results(folder / name).summary())
        numbers.to_csv(HERE / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")


def replace_section(readme: str, new: str) -> str:
    """The README with its section replaced in its place."""
    found, count = re.subn(
        rf"^{re.escape(HEADING)}\n.*?(?=^## )", lambda _: new, readme, flags=re.DOTALL | re.MULTILINE
    )
    if count != 1:
        raise ValueError(f"{README}: {count} sections are headed {HEADING!r}, expected one.")
    return found


def main() -> None:
    if "--numbers" in sys.argv[1:]:
        store(Path("results"))
    README.write_text(replace_section(README.read_text(encoding="utf-8"), section(*stored())), encoding="utf-8")


if __name__ == "__main__":
    main()
