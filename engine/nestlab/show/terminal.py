"""Consoles that show names as they are: no ":id:" becomes an emoji and no "[b]" a style, in text and in tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console

__all__ = ["terminal"]


def terminal(**options: Any) -> Console:
    """Make a console. options: of rich's `Console`, `stderr` or `width`."""
    return Console(emoji=False, markup=False, highlight=False, **options)
