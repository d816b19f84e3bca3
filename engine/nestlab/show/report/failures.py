"""Non-convergence and singular fits: defined, counted by method and condition, and how they were handled."""

from __future__ import annotations

from ...fit.status import InferenceStatus, Status
from ...run.series import series_of
from ...run.store import Store
from .material import Material, Paragraph, ReportTable, Section, value_text

__all__ = ["failures_section"]

#: Rows of counts that stand open; longer tables are folded.
OPEN_ROWS = 16


def failures_section(material: Material) -> Section:
    """Definitions, counts, and what became of the replicates."""
    fits = tuple((status.name, "yes" if status.converged else "no", status.sentence) for status in Status)
    inference = tuple((status.name, "yes" if status.failed else "no", status.sentence) for status in InferenceStatus)
    return Section(
        "Non-convergence and singular fits",
        (
            ReportTable("Statuses of a fit", ("status", "converged", "meaning"), fits),
            ReportTable("Statuses of the inference on a fit", ("status", "failed", "meaning"), inference),
            Paragraph(
                f"Every replicate is {'counted by' if material.results.keeps == 'summary' else 'kept with'} its "
                "status; none is drawn again or dropped. A fit without estimates "
                "is in no measure of an estimand; a singular fit counts like any other. Estimates of a fit that did not "
                "converge are left out of all findings, plots and tables here; they count in the subset all only. A "
                "missing test is not a non-rejection and a missing interval not a miss: they are missing from n, "
                "and the bounds of power and coverage count them both ways."
            ),
            _counts(material),
            *_flagged(material),
            *_statuses(material),
            *_messages(material),
        ),
    )


def _counts(material: Material) -> ReportTable:
    """A row a condition and method (one label a rule of inference)."""
    shares = _shares(material)
    factors = [name for name, levels in material.factors.items() if len(levels) > 1]
    rows = []
    for row in material.conditions:
        for label in material.labels:
            found = shares.get((row.number, label))
            if found is None:
                counts = ["0", *["none stored"] * 4]
            else:
                n = found["converged"][1]
                counts = [
                    f"{n:,}",
                    *(_count(found.get(m)) for m in ("converged", "singular", "failed", "inference_failed")),
                ]
            rows.append((str(row.number), *(value_text(row.factors.get(f)) for f in factors), label, *counts))
    header = (
        "condition",
        *factors,
        "method",
        "replicates",
        "converged",
        "singular",
        "no estimates",
        "inference failed",
    )
    return ReportTable("Fits by condition and method", header, tuple(rows), len(rows) > OPEN_ROWS)


def _shares(material: Material) -> dict[tuple[int, str], dict[str, tuple[float, int]]]:
    whole = material.whole
    found: dict[tuple[int, str], dict[str, tuple[float, int]]] = {}
    if not whole.empty:
        some = whole[whole["estimand"] == ""]
        for c, m, measure, value, n in some[["condition", "method", "measure", "value", "n"]].itertuples(index=False):
            found.setdefault((int(c), str(m)), {})[str(measure)] = (float(value), int(n))
    return found


def _count(share: tuple[float, int] | None) -> str:
    return "not told" if share is None else f"{round(share[0] * share[1]):,}"


def _messages(material: Material) -> list[ReportTable]:
    """What methods that keep their messages said, and how often they warned."""
    rows = []
    for said in material.results.said():
        rows += [
            (said.method, message, f"{count:,}", str(condition), f"{replicate:,}")
            for message, (count, condition, replicate) in said.messages.items()
        ]
        if said.first_warned is not None:
            condition, replicate = said.first_warned
            text = f"(warnings, {said.warnings:,} in all)"
            rows.append((said.method, text, f"{said.warned:,}", str(condition), f"{replicate:,}"))
    header = ("method", "message", "replicates", "first condition", "its replicate")
    caption = "Messages of failures, and warnings"
    return [ReportTable(caption, header, tuple(rows), len(rows) > OPEN_ROWS)] if rows else []


def _flagged(material: Material) -> list[ReportTable]:
    """Conditions that ended early, or failed more often than max_failed allows."""
    if "flag" not in material.summary:
        return []
    found = material.summary[material.summary["flag"] != ""][["condition", "method", "flag"]].drop_duplicates()
    rows = tuple((str(c), str(m), str(flag)) for c, m, flag in found.itertuples(index=False))
    caption = "Conditions with more failures than max_failed, whose measures describe what is left"
    return [ReportTable(caption, ("condition", "method", "what happened"), rows, len(rows) > OPEN_ROWS)] if rows else []


def _statuses(material: Material) -> list[ReportTable]:
    """What kind the fits were that did not converge, of the conditions that have any."""
    store, rows = Store(material.results.folder), []
    store.forget_missing()
    store.adopt_unlisted()
    for series in series_of(store, material.conditions, material.methods):
        if (tally := series.tally).lost:
            counts = (f"{tally.statuses.get(status.name, 0):,}" for status in Status)
            rows.append((str(series.condition), series.method.name, *counts))
    header = ("condition", "method", *(status.name for status in Status))
    caption = "Statuses where a fit did not converge"
    return [ReportTable(caption, header, tuple(rows), len(rows) > OPEN_ROWS)] if rows else []
