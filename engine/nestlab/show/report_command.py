"""`nestlab report`."""

from __future__ import annotations

from pathlib import Path

from ..spec.problems import StudyError
from .api import Results
from .report import write_report

__all__ = ["report_command"]


def report_command(folder: Path, *, out: Path | None, title: str | None) -> tuple[str, bool]:
    """Write the report; a line that says where it is, and whether the run is complete."""
    results = Results(folder)
    path = folder / "report.html" if out is None else out
    if path.is_dir():
        raise StudyError([f"--out {path}: is a folder, and must be a file; write {path / 'report.html'}"])
    if not path.parent.is_dir():
        raise StudyError([f"--out {path}: must be in a folder that exists; make {path.parent} first"])
    write_report(results, path, title=title)
    note = f"; {results.incomplete}" if results.incomplete else ""
    return f"written to {path} ({path.stat().st_size / 1e6:.1f} MB){note}", not note
