"""Data of several grouping factors: what a condition's rows share (`design`), and the draw of blocks as rows (`rows`)."""

from __future__ import annotations

from .design import SeveralDesign, compile_several
from .rows import SeveralDraw, SeveralSampler, replicate_frame

__all__ = ["SeveralDesign", "SeveralDraw", "SeveralSampler", "compile_several", "replicate_frame"]
