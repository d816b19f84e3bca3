"""`nestlab run`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from .api import Study
from .progress import progress_for
from .summary import overview

__all__ = ["run_command"]


def run_command(
    path: Path, *, replications: int | None, jobs: int, out: Path | None, seed: int | None, allow_code: bool = False
) -> None:
    """Run a study file, then print an overview and where everything was written."""
    study = Study.from_toml(path, seed=seed, replications=replications)
    results, report = study.execute(
        out=out, jobs=jobs, progress=progress_for(Console(stderr=True)), allow_code=allow_code
    )
    console = Console()
    console.print(overview(results, console.width))
    rate = f", {report.made / report.seconds:,.0f} a second" if report.made else ""
    stored = f" ({report.stored:,} were stored already)" if report.stored else ""
    console.print(f"{report.made:,} fits in {report.seconds:.1f} s{rate}{stored}", highlight=False, soft_wrap=True)
    console.print(
        f"written to {report.folder}: summary.parquet, conditions.parquet, replicates/", highlight=False, soft_wrap=True
    )
