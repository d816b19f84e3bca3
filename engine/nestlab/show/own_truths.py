"""Say which methods have true values of their own, as their parameters mean something else than the truth's of the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..run.results import StoredResults

__all__ = ["apart_lines", "truth_lines"]

#: Estimands of a method that are told one by one.
MOST = 3


def truth_lines(results: StoredResults) -> list[str]:
    """A line for each method with true values of its own, and one for each reason why some are not known."""
    table = results.truths()
    lines = []
    for method, own in table[table["meaning"] != ""].groupby("method", sort=False):
        known = own[own["unknown"] == ""].drop_duplicates("estimand")
        known = known[known["estimand"] != known["meaning"]]
        shown = [f"{row.estimand} = {row.meaning}" for row in known.head(MOST).itertuples()]
        if shown:
            more = f" and {len(known) - MOST:,} more" if len(known) > MOST else ""
            lines.append(f"{method} is held against its own true values: {', '.join(shown)}{more} (results.truths())")
        for why, rows in own[own["unknown"] != ""].groupby("unknown", sort=False):
            lines.append(f"{method} has no true value for {', '.join(dict.fromkeys(rows['estimand']))}: {why}")
    return lines


def apart_lines(apart: dict[str, list[str]], reference: str) -> list[str]:
    """What `compare` leaves out. apart: methods by the estimand that means something else to them than to the reference."""
    by_methods: dict[tuple[str, ...], list[str]] = {}
    for estimand, methods in apart.items():
        by_methods.setdefault(tuple(methods), []).append(estimand)
    return [
        f"not compared with {reference}: {', '.join(estimands)} of {', '.join(methods)}, which mean something else there"
        for methods, estimands in by_methods.items()
    ]
