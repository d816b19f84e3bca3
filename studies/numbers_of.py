"""Measures looked up in a summary, as the page's answers quote them."""

from __future__ import annotations

import pandas as pd

import nestlab as nl
from nestlab.show.summary import value_with_mcse


class Numbers:
    """One measure of one estimand, looked up by factors and method."""

    def __init__(self, results: nl.Results, measure: str, estimand: str) -> None:
        found = results.summary()
        chosen = (found["measure"] == measure) & (found["estimand"] == estimand) & (found["subset"] == "all")
        self.rows = found[chosen]

    def row(self, **where: object) -> pd.Series:
        rows = self.rows
        for column, value in where.items():
            rows = rows[rows[column] == value]
        assert len(rows) == 1, f"{where} leaves {len(rows)} rows"
        return rows.iloc[0]

    def __call__(self, **where: object) -> str:
        return shown(self.row(**where))


def shown(row: pd.Series) -> str:
    """A value with its MCSE in brackets, as the summary prints them."""
    return value_with_mcse(row["value"], row["mcse"])
