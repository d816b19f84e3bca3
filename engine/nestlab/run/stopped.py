"""What is said of conditions that a rule stopped (`stopping`), from conditions.parquet alone."""

from __future__ import annotations

from collections.abc import Sequence

from .store import StoredCondition

__all__ = ["ENDED", "MAXIMUM", "MET", "NONE", "stopping_lines"]

#: What the reason of a condition begins with: its targets are met, it has the most replicates, too many failed by every
#: method that has targets, or it has none of what is asked for.
MET, MAXIMUM, ENDED, NONE = "met", "maximum", "ended", "none"
#: Conditions that reached the maximum and are listed.
LISTED = 3


def stopping_lines(rows: Sequence[StoredCondition]) -> list[str]:
    """Which conditions stopped why, in a few lines; rows: active ones of a study with a rule."""
    by = {kind: [row for row in rows if row.stopped.startswith(f"{kind}:")] for kind in (MET, MAXIMUM, ENDED, NONE)}
    met, most = by[MET], by[MAXIMUM]
    undecided = len(rows) - sum(map(len, by.values()))
    said = [f"{len(met):,} of {len(rows):,} condition{'' if len(rows) == 1 else 's'} met all targets{_after(met)}"]
    if most:
        said.append(f"{len(most):,} reached the maximum, {most[0].replications:,}")
    if by[ENDED]:
        said.append(f"in {len(by[ENDED]):,} too many fits failed (max_failed)")
    if by[NONE]:
        said.append(f"{len(by[NONE]):,} {'has' if len(by[NONE]) == 1 else 'have'} nothing of what is asked for")
    if undecided:
        said.append(f"{undecided:,} {'is' if undecided == 1 else 'are'} not decided yet, and counted with the maximum")
    lines = ["; ".join(said)]
    lines += [f"condition {row.number}: {row.stopped}" for row in (met if len(rows) <= LISTED else [])]
    lines += [f"condition {row.number}: {row.stopped}" for row in most[:LISTED]]
    if len(most) > LISTED:
        lines.append(f"and {len(most) - LISTED:,} more (conditions.parquet, column stopped)")
    return lines


def _after(rows: Sequence[StoredCondition]) -> str:
    """After how many replications they stopped."""
    if not rows:
        return ""
    low, high = min(row.replications for row in rows), max(row.replications for row in rows)
    return f", after {low:,} replications" if low == high else f", after {low:,} to {high:,} replications"
