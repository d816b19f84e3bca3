"""`nestlab merge`, and what `nestlab run --shard` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..run.runner import RunReport
from ..run.shards import merge_shards
from ..spec.problems import StudyError
from .api import Results
from .progress import progress_for
from .summary import overview
from .terminal import terminal

__all__ = ["check_alone", "merge_command", "shard_lines", "slurm_job"]


def merge_command(folder: Path) -> bool:
    """List what shards left, summarise it and print an overview; whether nothing is missing."""
    merged = merge_shards(folder, progress_for(terminal(stderr=True)))
    console = terminal()
    if not merged.missing:
        console.print(overview(Results(folder), console.width))
    for end in merged.ended:
        console.print(f"ended early: {end.text}", highlight=False, soft_wrap=True, markup=False)
    found = f"{merged.parts:,} parts, {merged.stored:,} fits"
    text = (
        f"{found}; {merged.missing:,} fits are missing, so there is no summary.parquet yet: run the shards again, or "
        f"nestlab run {folder}"
        if merged.missing
        else f"{found}; written to {folder}: summary.parquet"
    )
    console.print(text, highlight=False, soft_wrap=True, markup=False)
    return not merged.missing


def check_alone(*, repair: bool, backend: str) -> None:
    """StudyError for what cannot be asked of one shard."""
    if repair:
        raise StudyError(["repair: is for the whole folder; leave out --shard, when no shard is at work"])
    if backend != "threads":
        raise StudyError(
            [f'backend = "{backend}": spreads a whole study over machines; leave out --shard, or --backend']
        )


def shard_lines(report: RunReport, shard: str) -> Iterator[str]:
    """What is said when a shard is done."""
    rate = f", {report.made / report.seconds:,.0f} a second" if report.made else ""
    stored = f" ({report.stored:,} were stored already)" if report.stored else ""
    yield f"shard {shard}: {report.made:,} fits in {report.seconds:.1f} s{rate}{stored}"
    yield f"written to {report.folder}: replicates/; when all shards are done: nestlab merge {report.folder}"


def slurm_job(environment: Mapping[str, str]) -> str | None:
    """The job of SLURM that this process is, as "slurm 12_3"; None outside SLURM."""
    job = environment.get("SLURM_ARRAY_JOB_ID", environment.get("SLURM_JOB_ID"))
    if job is None:
        return None
    task, restarts = environment.get("SLURM_ARRAY_TASK_ID"), environment.get("SLURM_RESTART_COUNT", "0")
    again = f", restart {restarts}" if restarts not in ("", "0") else ""
    return f"slurm {job}{f'_{task}' if task else ''}{again}"
