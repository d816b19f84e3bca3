"""`nestlab run`."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..run.folder import check_resumable
from ..run.runner import RunReport
from .api import Study
from .merge_command import check_alone, shard_lines, slurm_job
from .progress import progress_for
from .summary import overview
from .terminal import terminal

__all__ = ["run_command"]


def run_command(
    path: Path, *, replications: int | None, jobs: int, out: Path | None, seed: int | None, keep: str | None = None,
    alpha: float | None = None,
    repair: bool = False, allow_code: bool = False, shard: str | None = None, backend: str = "threads",
    scheduler: str | None = None,
) -> None:  # fmt: skip
    """Run a study file, or go on with a folder of results, then print an overview and where everything was written."""
    if path.is_dir():
        check_resumable(path)
        path, out = path / "study.toml", out if out is not None else path
    study = Study.from_toml(path, seed=seed, replications=replications, keep=keep, alpha=alpha)
    progress = progress_for(terminal(stderr=True))
    if shard is not None:
        check_alone(repair=repair, backend=backend)
        with _termination_interrupts():
            made = study.run_shard(
                shard, out=out, jobs=jobs, progress=progress, allow_code=allow_code, job=slurm_job(os.environ)
            )
        _print(shard_lines(made, shard))
        return
    with _termination_interrupts():
        results, report = study.execute(
            out=out, jobs=jobs, progress=progress, repair=repair, allow_code=allow_code, backend=backend,
            scheduler=scheduler,
        )  # fmt: skip
    console = terminal()
    console.print(overview(results, console.width))
    _print(_lines(report))


def _print(lines: Iterable[str]) -> None:
    console = terminal()
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _lines(report: RunReport) -> Iterator[str]:
    for line in report.repaired:
        yield f"repair: {line}"
    rate = f", {report.made / report.seconds:,.0f} a second" if report.made else ""
    stored = f" ({report.stored:,} were stored already)" if report.stored else ""
    yield f"{report.made:,} fits in {report.seconds:.1f} s{rate}{stored}"
    kept = "sums" if (report.folder / "sums").is_dir() else "replicates"
    yield f"written to {report.folder}: summary.parquet, conditions.parquet, {kept}/"


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Let SIGTERM, with which batch systems announce the end, do what Ctrl-C does: the manifest is written before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, before)
