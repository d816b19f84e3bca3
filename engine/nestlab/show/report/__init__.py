"""One self-contained HTML file that says what a study found and all that a report of a simulation study must state."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from ...run.files import write_whole
from ...run.folder import resumed_by
from ...run.results import StoredResults
from .ademp import ademp
from .figures import pictures
from .findings import findings
from .material import Material, plural
from .page import Page, render
from .payload import table_payload
from .provenance import provenance_section

__all__ = ["write_report"]


def write_report(results: StoredResults, path: str | Path | None = None, *, title: str | None = None) -> Path:
    """Write the report and return its path.

    path: the file [default: report.html in the results' folder]; title: instead of the study's. OSError where the file cannot be
    written, RefusedError where stored results were altered.
    """
    out = results.folder / "report.html" if path is None else Path(path)
    text = render(_page(Material.read(results), title))
    write_whole(out, text.encode())
    return out


def _page(material: Material, title: str | None) -> Page:
    name = str(material.manifest.get("name", material.study.name))
    sections = ademp(material)
    told = findings(material)
    return Page(
        title=title or material.study.title or name,
        name=name,
        facts=tuple(_facts(material)),
        notices=tuple(_notices(material)),
        findings=tuple((topic, tuple(some)) for topic, some in groupby(told, key=lambda finding: finding.topic)),
        pictures=tuple(pictures(material)),
        table=table_payload(material.summary, list(material.factors), name=name),
        method_sections=sections,
        provenance=provenance_section(material),
        failures_anchor=next(s.anchor for s in sections if s.title.startswith("Non-convergence")),
    )


def _facts(material: Material) -> list[str]:
    low, high = material.replications()
    runs = material.manifest.get("runs") or []
    ended = next((str(run["ended"])[:10] for run in reversed(runs) if run.get("ended")), "")
    return [
        plural(len(material.conditions), "condition"),
        plural(len(material.methods), "method"),
        f"{low:,} replications each" if low == high else f"{low:,} to {high:,} replications",
        plural(len(material.summary), "measure"),
        *([f"run on {ended}"] if ended else []),
    ]


def _notices(material: Material) -> list[str]:
    low, high = material.replications()
    found = []
    if material.missing:
        found.append(
            f"Incomplete: {plural(material.missing, 'fit')} that the study asks for "
            f"{'is' if material.missing == 1 else 'are'} not stored. Everything here is computed from what is; "
            f"{resumed_by(material.results.manifest)} goes on from there."
        )
    if low != high:
        found.append(
            f"Conditions have different numbers of replicates, {low:,} to {high:,}; the n beside each measure tells "
            "how many."
        )
    return found
