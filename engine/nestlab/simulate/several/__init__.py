"""Data of several grouping factors: what a condition's rows share (`design`), the draw of blocks as rows (`rows`), and of
balanced designs as statistics of their strata (`strata`)."""

from __future__ import annotations

from .design import SeveralDesign, compile_several
from .rows import SeveralDraw, SeveralSampler, replicate_frame
from .strata import StrataDraw, StrataSampler

__all__ = [
    "SeveralDesign", "SeveralDraw", "SeveralSampler", "StrataDraw", "StrataSampler", "compile_several", "replicate_frame",
]  # fmt: skip
