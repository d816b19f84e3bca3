"""The scripts that stand beside the ready-made studies, as modules."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

STUDIES = Path(__file__).parents[1] / "studies"


def script(name: str) -> ModuleType:
    """Import studies/<name>.py, which imports its neighbours by their plain names."""
    sys.path.insert(0, str(STUDIES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(STUDIES))
