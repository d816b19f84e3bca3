"""Methods that are statsmodels': the only place that imports it. They work on rows, in milliseconds a fit."""

from __future__ import annotations

from .gee import GeeFits, fit_gee
from .mixed import fit_rows

__all__ = ["GeeFits", "fit_gee", "fit_rows"]
