"""`nestlab studies`: the ready-made studies, listed, printed or copied."""

from __future__ import annotations

from pathlib import Path

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ..spec.problems import StudyError
from .ready_made import ready_made_path, summarise_ready_made
from .study_text import refuse_existing, write_new
from .terminal import terminal

__all__ = ["studies_command"]

_HOW_TO = """
nestlab run NAME              runs one; its results go to results/NAME
nestlab studies NAME          prints its file
nestlab studies NAME --copy   writes it here as NAME.toml, to be edited"""


def studies_command(name: str | None, *, copy: bool) -> None:
    """List the ready-made studies; or print the file of one; or, with copy, write it to NAME.toml.

    Raises StudyError for a name that there is not, and for a file that would be overwritten.
    """
    if name is None:
        if copy:
            raise StudyError(["--copy: of which study? name one, nestlab studies article --copy say"])
        _list(terminal())
        return
    text = ready_made_path(name).read_text(encoding="utf-8")
    if not copy:
        typer.echo(text, nl=False)
        return
    path = Path(f"{name}.toml")
    refuse_existing(path, force=False, repair="remove or rename it first")
    write_new(path, text)
    typer.echo(f"written to {path}; nestlab run {path} runs it")


def _list(console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("conditions x\nreplications", justify="right", no_wrap=True)
    table.add_column("methods", justify="right")
    table.add_column("title")
    for study in summarise_ready_made():
        size = f"{study.conditions:,} x {study.replications:,}"
        table.add_row(study.name, size, str(study.methods), study.title)
    console.print(table)
    console.print(_HOW_TO, highlight=False, soft_wrap=True)
