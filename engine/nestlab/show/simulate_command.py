"""`nestlab simulate`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ..run.store import write_frame
from ..spec.problems import StudyError
from .api import Results, Study

__all__ = ["simulate_command"]


def simulate_command(path: Path, *, condition: int, replicate: int, out: Path, truth: bool) -> str:
    """Write one replicate's rows; returns a line that says which.

    path: a folder of results, whose condition numbers are meant, or a study file: then the position in its grid, which is the
    number in a first run. Raises StudyError for what does not exist, and where the two numbers differ.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise StudyError([f"--out {out}: the name must end in .csv or .parquet"])
    if not out.parent.is_dir():
        raise StudyError([f"--out {out}: the folder {out.parent} does not exist; create it first"])
    frame = (
        _from_results(path, condition, replicate, truth)
        if path.is_dir()
        else _from_file(path, condition, replicate, truth)
    )
    write_frame(frame, out)
    return f"condition {condition}, replicate {replicate}: {len(frame):,} rows written to {out}"


def _from_results(folder: Path, condition: int, replicate: int, truth: bool) -> pd.DataFrame:
    try:
        return Results(folder).data(condition, replicate, truth=truth)
    except KeyError as error:
        raise StudyError([str(error.args[0])]) from None


def _from_file(path: Path, condition: int, replicate: int, truth: bool) -> pd.DataFrame:
    study = Study.from_toml(path)
    folder = Path("results") / study.name
    try:
        frame = study.data(condition, replicate, truth=truth)
    except IndexError as error:
        raise StudyError([str(error)]) from None
    if (folder / "manifest.json").exists():
        number = Results(folder).number(study.conditions[condition])
        if number not in (None, condition):
            raise StudyError(
                [
                    f"--condition {condition}: condition {condition} of {path} has the number {number} in {folder}; "
                    f"give the folder instead of the file: nestlab simulate {folder} --condition {number}"
                ]
            )
    return frame
