"""The keys of a study file's [design] that say how many levels and rows there are."""

from __future__ import annotations

__all__ = ["FACTORS", "ROWS", "number_path"]

FACTORS, ROWS = "design.factors", "design.rows"


def number_path(name: str, within: str | bool) -> str:
    """The key of a factor's number of levels. within: whether it stands in a table of the factor's own."""
    return f"{FACTORS}.{name}.number" if within else f"{FACTORS}.{name}"
