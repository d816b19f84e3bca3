"""The command line. Imports of the other rooms stand inside the commands, so that `nestlab --help` is instant.

Exit codes: 0 done, 2 bad input, 3 refused (stale or mixed results), 4 incomplete, 130 interrupted, 1 anything else.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app", "main"]

_SUBSET = "all, converged or common [default: converged; of methods as wholes all]."
_ALPHA = "Level of the tests, instead of the file's; a method's own alpha stands."
_ALLOW_CODE = "Run the Python functions that the study's methods name."
BAD_INPUT, REFUSED, INCOMPLETE, INTERRUPTED = 2, 3, 4, 130
#: What typer raises for options and arguments that it can't use; it keeps the class in different places.
_UsageError: Any = typer.BadParameter.__mro__[1]
_BAD_NAMES = {
    errno.ENAMETOOLONG: "is too long for the name of a file or folder; shorten it",
    errno.ENOTDIR: "is not possible, for a part of it before the last is no folder; correct it",
}


def _names(text: str) -> Any:
    """An option that takes names, repeated or with commas between them."""
    return typer.Option(callback=_split, metavar="NAME,...", help=text, show_default=False)


def _split(names: list[str] | None) -> list[str]:
    return [name.strip() for part in names or () for name in part.split(",") if name.strip()]


app = typer.Typer(
    name="nestlab",
    help="Monte Carlo power and bias studies of multilevel (mixed-effects) models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the command `nestlab`."""
    _open_streams()
    try:
        code = app(prog_name="nestlab", standalone_mode=False)
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(BAD_INPUT)
        message = " ".join(error.format_message().split()).rstrip(".")
        command = error.ctx.command_path if error.ctx else "nestlab"
        sys.exit(_fail(f"{message}; {command} --help says what is possible", BAD_INPUT).exit_code)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Stand in for standard streams that are closed, and refuse to work for nobody where that is the output."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.exit(_fail("standard output is closed; open it, or send it to a file or to /dev/null", BAD_INPUT).exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        from nestlab import __version__

        typer.echo(f"nestlab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


_KEPT = "interrupted; finished parts are kept, the same command goes on from there"


@contextmanager
def _exit_codes(*, interrupted: str = _KEPT) -> Iterator[None]:
    """Turn exceptions into one line and the exit code that stands for them; NESTLAB_DEBUG=1 shows the traceback instead."""
    from ..run.cluster import ClusterError
    from ..run.files import RefusedError, StorageError
    from ..spec.formula import FormulaError
    from ..spec.problems import DataError, StudyError

    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except (StudyError, FormulaError, DataError) as error:
        raise _fail(str(error), BAD_INPUT) from None
    except RefusedError as error:
        raise _fail(str(error), REFUSED) from None
    except KeyboardInterrupt:
        raise _fail(interrupted, INTERRUPTED) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(1) from None
    except Exception as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and cause.errno in _BAD_NAMES:
            raise _fail(
                f"{_shortened(str(cause.filename2 or cause.filename))} {_BAD_NAMES[cause.errno]}", BAD_INPUT
            ) from None
        if isinstance(error, StorageError | ClusterError):
            raise _fail(str(error), 1) from None
        if os.environ.get("NESTLAB_DEBUG"):
            raise
        raise _fail(f"{type(error).__name__}: {error} (NESTLAB_DEBUG=1 shows where)", 1) from None


def _shortened(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:76]} ..."


def _fail(text: str, code: int) -> typer.Exit:
    for line in text.splitlines():
        typer.echo(f"error: {line}", err=True)
    return typer.Exit(code)


@app.command()
def run(
    study: Annotated[
        str,
        typer.Argument(
            help="The study file (TOML), the name of a ready-made study, or a folder of results to go on with.",
            show_default=False,
        ),
    ],
    replications: Annotated[
        int | None,
        typer.Option(min=1, help="Replications per condition, instead of the file's.", show_default=False),
    ] = None,
    jobs: Annotated[int, typer.Option(min=-1, help="Worker threads; -1: one a core.")] = -1,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results [default: results/<name>].", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, instead of the file's.", show_default=False)] = None,
    alpha: Annotated[float | None, typer.Option(help=_ALPHA, show_default=False)] = None,
    keep: Annotated[
        str | None,
        typer.Option(help='"replicates" or "summary" (sums of them), instead of the file\'s.', show_default=False),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Check every stored part; compute those anew that are damaged.")
    ] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help=_ALLOW_CODE)] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Only this one of N disjoint shards, beside others in one folder.", show_default=False
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="threads, or dask (workers of --scheduler).")] = "threads",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler: tcp://HOST:8786.", show_default=False)
    ] = None,
) -> None:
    """Simulate and fit a study; only what is missing is computed.

    Exit code 0 when all that was asked for is done: with --shard, that shard (nestlab merge then says if any is missing).
    """
    with _exit_codes():
        from .ready_made import study_path
        from .run_command import run_command

        path = Path(study) if (Path(study) / "study.toml").exists() else study_path(study)
        if path != Path(study):
            typer.echo(f"study file {path}", err=True)
        run_command(
            path, replications=replications, jobs=jobs, out=out, seed=seed, keep=keep, alpha=alpha, repair=repair,
            allow_code=allow_code, shard=shard, backend=backend, scheduler=scheduler,
        )  # fmt: skip


@app.command()
def merge(
    results: Annotated[Path, typer.Argument(help="The folder of the results.", show_default=False)],
) -> None:
    """List and summarise what shards left in a folder.

    Nothing is computed. Exit code 4 while anything is missing.
    """
    with _exit_codes():
        from .merge_command import merge_command

        if not merge_command(results):
            raise typer.Exit(INCOMPLETE)


@app.command()
def submit(
    study: Annotated[
        str,
        typer.Argument(
            help="The study file (TOML), the name of a ready-made study, or a folder of results to go on with.",
            show_default=False,
        ),
    ],
    sbatch: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- OPTION...]",
            help="After --: any other option of sbatch, as --mail-user=me@example.org.",
            show_default=False,
        ),
    ] = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="To SLURM, the batch system that is known so far.")] = False,
    array: Annotated[
        str, typer.Option(metavar="N[%M]", help="N jobs, a shard each; M of them at a time.", show_default=False)
    ] = "",
    time: Annotated[str | None, typer.Option(help="Limit of each job: 2:00:00.", show_default=False)] = None,
    partition: Annotated[str | None, typer.Option(help="Partition of the cluster.", show_default=False)] = None,
    mem: Annotated[str | None, typer.Option(help="Memory of each job: 4G.", show_default=False)] = None,
    cpus: Annotated[int, typer.Option(min=1, help="Cores of each job.")] = 1,
    account: Annotated[str | None, typer.Option(help="Account to charge.", show_default=False)] = None,
    replications: Annotated[
        int | None,
        typer.Option(min=1, help="Replications per condition, instead of the file's.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results [default: results/<name>].", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, instead of the file's.", show_default=False)] = None,
    alpha: Annotated[float | None, typer.Option(help=_ALPHA, show_default=False)] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help=_ALLOW_CODE)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print commands and scripts; write and submit nothing.")
    ] = False,
) -> None:
    """Run a study as an array of jobs of SLURM.

    Each runs one of N disjoint shards into the folder of the results, which all machines must see; those with nothing to do are
    not submitted, so that the same command goes on where jobs failed or were cancelled. A last job starts when all others have
    ended, however they did, merges and summarises; its exit code is 4 while anything is missing. Scripts and logs are written
    to slurm/ in the folder, job ids to its manifest.
    """
    with _exit_codes():
        from .ready_made import study_path
        from .submit_command import Wanted, submit_command

        path = Path(study) if (Path(study) / "study.toml").exists() else study_path(study)
        options = {"time": time, "partition": partition, "mem": mem, "account": account}
        wanted = Wanted.checked(
            slurm=slurm, array=array, cpus=cpus, options=options, sbatch=sbatch or [], code=allow_code
        )
        submit_command(path, wanted, replications=replications, out=out, seed=seed, alpha=alpha, dry_run=dry_run)


@app.command()
def status(
    results: Annotated[Path, typer.Argument(help="The folder of the results.", show_default=False)],
    watch: Annotated[bool, typer.Option("--watch", help="Go on until nobody works at it any more.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between looks of --watch.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is done, missing, failed, and how long the rest takes."""
    with _exit_codes(interrupted=""):
        from .status_command import status_command

        if not status_command(results, as_json=as_json, watch=watch, interval=interval):
            raise typer.Exit(INCOMPLETE)


@app.command()
def failures(
    results: Annotated[Path, typer.Argument(help="The folder of the results.", show_default=False)],
    condition: Annotated[int | None, typer.Option(min=0, help="Only this condition.", show_default=False)] = None,
    method: Annotated[str | None, typer.Option(help="Only this method.", show_default=False)] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the rows as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which replicates failed, how, and how to look at their rows."""
    with _exit_codes():
        from .failures_command import failures_command

        missing = failures_command(results, condition=condition, method=method, csv=csv, as_json=as_json)
        if missing:
            raise _fail(missing, INCOMPLETE)


@app.command()
def verify(
    results: Annotated[Path, typer.Argument(help="The folder of the results.", show_default=False)],
    blocks: Annotated[int, typer.Option(min=1, help="Blocks to recompute.")] = 20,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the sample [default: another each time].", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help=_ALLOW_CODE)] = False,
) -> None:
    """Recompute stored blocks, check all else, say what is wrong.

    Exit code 3 where anything stored is not what the study gives, 4 where something is missing or nothing was compared.
    """
    with _exit_codes(interrupted=""):
        from .verify_command import verify_command

        found = verify_command(results, blocks=blocks, seed=seed, as_json=as_json, allow_code=allow_code)
        if found.wrong or not found.whole:
            raise typer.Exit(REFUSED if found.wrong else INCOMPLETE)


@app.command()
def summary(
    results: Annotated[Path, typer.Argument(help="The folder of the results.", show_default=False)],
    estimand: Annotated[list[str] | None, _names("Only these estimands.")] = None,
    measure: Annotated[list[str] | None, _names("Only these measures.")] = None,
    method: Annotated[list[str] | None, _names("Only these methods.")] = None,
    subset: Annotated[str | None, typer.Option(help=_SUBSET, show_default=False)] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the rows as CSV.")] = False,
) -> None:
    """Print the measures of a run, each with its MCSE."""
    with _exit_codes():
        from .summary import summary_command

        complete = summary_command(
            results, estimands=estimand or [], measures=measure or [], methods=method or [], subset=subset, csv=csv
        )
        if not complete:
            raise typer.Exit(INCOMPLETE)


@app.command()
def compare(
    results: Annotated[Path, typer.Argument(help="The folder of the results.", show_default=False)],
    reference: Annotated[
        str | None,
        typer.Option(help="The method that others are compared with [default: the first].", show_default=False),
    ] = None,
    measure: Annotated[list[str] | None, _names("Only these measures [default: bias,empse,cover,power].")] = None,
    estimand: Annotated[list[str] | None, _names("Of these estimands [default: the study's].")] = None,
    method: Annotated[list[str] | None, _names("Only these methods.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write all rows as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all rows as JSON.")] = False,
) -> None:
    """Compare methods: differences, with MCSEs by the pairing."""
    with _exit_codes():
        from .compare_command import compare_command

        complete = compare_command(
            results, reference=reference, measures=measure or [], estimands=estimand or [], methods=method or [],
            form="csv" if csv else "json" if as_json else None,
        )  # fmt: skip
        if not complete:
            raise typer.Exit(INCOMPLETE)


@app.command()
def fit(
    data: Annotated[Path, typer.Argument(help="CSV or Parquet file.", show_default=False)],
    formula: Annotated[str, typer.Argument(help='As in lme4: "y ~ x + (1 + x | g)".', show_default=False)],
    ml: Annotated[bool, typer.Option("--ml", help="Maximum likelihood instead of REML.")] = False,
    df: Annotated[
        str | None,
        typer.Option(
            help="Degrees of freedom: satterthwaite (the default), kenward-roger, between-within, residual or z; of other "
            "families z (the default) or between-within.",
            show_default=False,
        ),
    ] = None,
    singular_df: Annotated[
        str, typer.Option(help="Satterthwaite's at a singular fit: lmertest, or refit without what vanished.")
    ] = "lmertest",
    test: Annotated[
        list[str] | None,
        typer.Option(
            help='Also test hypotheses: "x = 0, sex[m]:x = 0", or a term, sex (repeatable).', show_default=False
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help='Also test a smaller model by the likelihood ratio: "y ~ x + (1 | g)" (repeatable).',
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str, typer.Option(help="What that is judged by: asymptotic, chisq or bootstrap.")
    ] = "asymptotic",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    confint: Annotated[bool, typer.Option("--confint", help="Also profile intervals, as lme4's confint.")] = False,
    intervals: Annotated[
        str | None,
        typer.Option(help="Also intervals by profile, profile-reml, wald, wald-log or bootstrap.", show_default=False),
    ] = None,
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    draws: Annotated[int, typer.Option(help="Draws of the bootstrap.")] = 999,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 1,
    weights: Annotated[
        str | None, typer.Option(help="Column of prior weights: the residual variance is s2 / w.", show_default=False)
    ] = None,
    offset: Annotated[
        str | None,
        typer.Option(help="Column that is part of the linear predictor with coefficient 1.", show_default=False),
    ] = None,
    family: Annotated[str, typer.Option(help="gaussian, binomial, poisson or negative-binomial.")] = "gaussian",
    link: Annotated[
        str | None, typer.Option(help="Of a binomial family: logit, probit or cloglog.", show_default=False)
    ] = None,
    nodes: Annotated[int, typer.Option(help="Of adaptive quadrature, up to 25; 1 is Laplace.")] = 1,
    trials: Annotated[
        str | None, typer.Option(help="Column of trials, where the response counts events.", show_default=False)
    ] = None,
    curvature: Annotated[
        str, typer.Option(help="Weights of Laplace and quadrature: observed, or expected as in glmer.")
    ] = "observed",
    pql: Annotated[bool, typer.Option("--pql", help="Penalised quasi-likelihood instead of the likelihood.")] = False,
    scale: Annotated[str, typer.Option(help="Residual scale of --pql: estimated, or fixed at 1.")] = "estimated",
) -> None:
    """Fit one data set and print it as lmer does, or glmer."""
    with _exit_codes():
        from .fit_command import fit_command

        made = fit_command(
            data, formula, ml=ml, df=df, as_json=as_json, singular_df=singular_df, tests=test or [],
            compare=compare or [], reference=reference, intervals=intervals or ("profile" if confint else None), level=level,
            draws=draws, seed=seed,
            columns={"weights": weights, "offset": offset, "trials": trials},
            model={"family": family, "link": link, "nodes": nodes, "curvature": curvature, "scale": scale,
                   "method": "pql" if pql else "likelihood"},
        )  # fmt: skip
        typer.echo(made)


@app.command()
def simulate(
    study: Annotated[
        str,
        typer.Argument(
            help="A study file, the name of a ready-made study, or a folder of results.", show_default=False
        ),
    ],
    condition: Annotated[int, typer.Option(min=0, help="Number of the condition.", show_default=False)],
    replicate: Annotated[int, typer.Option(min=0, help="Number of the replicate, from 0.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write: .csv or .parquet.", show_default=False)],
    truth: Annotated[bool, typer.Option("--truth", help="Also the random effects and the errors.")] = False,
) -> None:
    """Write the rows behind one stored fit."""
    with _exit_codes():
        from .ready_made import study_path
        from .simulate_command import simulate_command

        path = Path(study) if Path(study).is_dir() else study_path(study)
        typer.echo(simulate_command(path, condition=condition, replicate=replicate, out=out, truth=truth), err=True)


@app.command()
def studies(
    name: Annotated[str | None, typer.Argument(help="Print the file of this one.", show_default=False)] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Write it here, as NAME.toml, instead.")] = False,
) -> None:
    """List the ready-made studies; print or copy one."""
    with _exit_codes():
        from .studies_command import studies_command

        studies_command(name, copy=copy)


@app.command()
def keys(
    name: Annotated[
        str | None, typer.Argument(help="A key, a dotted path, or a word that it is about.", show_default=False)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page of all keys.")] = False,
) -> None:
    """List the keys of a study file, or explain one."""
    with _exit_codes():
        from .keys_command import keys_command

        keys_command(name, markdown=markdown)


def _answer(text: str) -> Any:
    """The option of a question of `nestlab new`."""
    return typer.Option(help=text, show_default=False)


@app.command()
def new(
    file: Annotated[Path | None, typer.Argument(help="File to write [default: NAME.toml].", show_default=False)] = None,
    from_fit: Annotated[
        tuple[Path, str] | None,
        typer.Option(
            metavar="DATA FORMULA",
            help="A pilot: its data and lme4 formula, with one grouping factor or several.",
            show_default=False,
        ),
    ] = None,
    uncertain: Annotated[
        bool, typer.Option("--uncertain", help="The pilot's uncertainty as priors, not its estimates alone.")
    ] = False,
    name: Annotated[str | None, _answer("Name of the study.")] = None,
    outcome: Annotated[str | None, _answer("Outcome variable.")] = None,
    cluster: Annotated[str | None, _answer("Grouping factor.")] = None,
    predictor: Annotated[str | None, _answer("Predictor of interest.")] = None,
    level: Annotated[str | None, _answer("Where it varies: within (1) or between (2) clusters.")] = None,
    distribution: Annotated[str | None, _answer("balanced (0/1) or normal.")] = None,
    effect: Annotated[str | None, _answer("Its true effect; the outcome's total sd is 1.")] = None,
    icc: Annotated[str | None, _answer("Intraclass correlation.")] = None,
    slope_variance: Annotated[str | None, _answer("Variance of the effect between clusters.")] = None,
    clusters: Annotated[str | None, _answer("Numbers of clusters: 20,40")] = None,
    cluster_size: Annotated[str | None, _answer("Rows in a cluster, one number or several.")] = None,
    question: Annotated[str | None, _answer("power or bias.")] = None,
    replications: Annotated[int, typer.Option(min=1, help="Replications per condition.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: defaults for what has no flag.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a study file, from a few questions or from a pilot's data."""
    with _exit_codes():
        from .new_command import NewOptions, new_command

        flags = {
            "name": name, "outcome": outcome, "cluster": cluster, "predictor": predictor, "level": level,
            "distribution": distribution, "effect": effect, "icc": icc, "slope_variance": slope_variance,
            "clusters": clusters, "cluster_size": cluster_size, "question": question,
        }  # fmt: skip
        given = {key: text for key, text in flags.items() if text is not None}
        commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
        options = NewOptions(
            given, seed, replications, yes=yes, force=force, uncertain=uncertain, solve="solve" in commands
        )
        new_command(file, options, from_fit)


@app.command()
def plot(
    results: Annotated[Path, typer.Argument(help="The folder of the results.", show_default=False)],
    kind: Annotated[
        str | None,
        typer.Option(
            help="solve, power, coverage, bias, measure, nested-loop, lollipop, zip, heatmap, estimate-se, convergence or "
            "methods [default: solve of a search's folder, else power].",
            show_default=False,
        ),
    ] = None,
    x: Annotated[str | None, typer.Option(help="Factor along the axis, or method.", show_default=False)] = None,
    color: Annotated[str | None, typer.Option(help="Factor of the colours.", show_default=False)] = None,
    facet: Annotated[str | None, typer.Option(help="Factor of the panels.", show_default=False)] = None,
    estimand: Annotated[str | None, typer.Option(help="Instead of the study's estimand.", show_default=False)] = None,
    measure: Annotated[str | None, typer.Option(help="Instead of power.", show_default=False)] = None,
    method: Annotated[str | None, typer.Option(help="Only this method.", show_default=False)] = None,
    subset: Annotated[str | None, typer.Option(help=_SUBSET, show_default=False)] = None,
    condition: Annotated[int | None, typer.Option(help="Only this condition.", show_default=False)] = None,
    title: Annotated[
        str | None, typer.Option(help='Title, instead of the one written; "": none.', show_default=False)
    ] = None,
    xlabel: Annotated[
        str | None, typer.Option(help="Label of the horizontal axis, likewise.", show_default=False)
    ] = None,
    ylabel: Annotated[
        str | None, typer.Option(help="Label of the vertical axis, likewise.", show_default=False)
    ] = None,
    caption: Annotated[str | None, typer.Option(help="Caption, likewise.", show_default=False)] = None,
    size: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Inches of the whole picture.", show_default=False, metavar="WIDTH HEIGHT"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File: .svg, .pdf, .png [default: <results>/plots/<kind>.svg, .png].", show_default=False),
    ] = None,
) -> None:
    """Draw results with their Monte Carlo uncertainty.

    Factors that are not named are chosen, none is averaged over.
    """
    with _exit_codes():
        from .plot_command import plot_command

        missing = plot_command(
            results, kind, out=out, x=x, color=color, facet=facet, estimand=estimand, measure=measure, method=method,
            subset=subset, condition=condition,
            words={"title": title, "xlabel": xlabel, "ylabel": ylabel, "caption": caption, "size": size},
        )  # fmt: skip
        if missing:
            raise _fail(missing, INCOMPLETE)


@app.command()
def table(
    results: Annotated[Path, typer.Argument(help="The folder of the results.", show_default=False)],
    measure: Annotated[list[str] | None, _names("Measures side by side [default: power].")] = None,
    rows: Annotated[list[str] | None, _names("Factors on the rows.")] = None,
    columns: Annotated[list[str] | None, _names("Factors on the columns.")] = None,
    estimand: Annotated[str | None, typer.Option(help="Instead of the study's estimand.", show_default=False)] = None,
    method: Annotated[str | None, typer.Option(help="Only this method.", show_default=False)] = None,
    subset: Annotated[str | None, typer.Option(help=_SUBSET, show_default=False)] = None,
    caption: Annotated[
        str | None, typer.Option(help="Caption, instead of the one that is written.", show_default=False)
    ] = None,
    label: Annotated[str | None, typer.Option(help="For \\ref of LaTeX: tab:power.", show_default=False)] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="markdown, latex or csv [default: markdown].", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File instead of the terminal: .md, .tex, .csv.", show_default=False)
    ] = None,
) -> None:
    """Print measures as a table of value (MCSE)."""
    with _exit_codes():
        from .table_command import table_command

        missing = table_command(
            results, measure=measure or [], rows=rows or [], columns=columns or [], estimand=estimand, method=method,
            subset=subset, caption=caption, label=label, form=form, out=out,
        )  # fmt: skip
        if missing:
            raise _fail(missing, INCOMPLETE)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="The folder of the results.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="File to write [default: report.html in that folder].", show_default=False)
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title, instead of the study's.", show_default=False)] = None,
) -> None:
    """Write one self-contained HTML file.

    It has the findings, plots, all measures, and how the study was done.
    """
    with _exit_codes():
        from .report_command import report_command

        line, complete = report_command(results, out=out, title=title)
        typer.echo(line, err=True)
        if not complete:
            raise typer.Exit(INCOMPLETE)


@app.command("solve")
def solve_(
    study: Annotated[str, typer.Argument(help="The study file (TOML), or a ready-made study.", show_default=False)],
    power: Annotated[
        float | None, typer.Option(help="Target: power of --estimand, at least.", show_default=False)
    ] = None,
    joint_power: Annotated[
        float | None, typer.Option(help="Target: all --estimand (repeated) are rejected.", show_default=False)
    ] = None,
    width: Annotated[
        float | None, typer.Option(help="Target: mean width of the interval, at most.", show_default=False)
    ] = None,
    coverage: Annotated[float | None, typer.Option(help="Target: coverage, at least.", show_default=False)] = None,
    bias: Annotated[float | None, typer.Option(help="Target: |bias|, at most.", show_default=False)] = None,
    relbias: Annotated[
        float | None, typer.Option(help="Target: |bias| in percent of the truth, at most.", show_default=False)
    ] = None,
    estimand: Annotated[list[str] | None, _names("Of which estimand [default: the study's].")] = None,
    method: Annotated[
        str | None, typer.Option(help="By which method [default: the first].", show_default=False)
    ] = None,
    over: Annotated[
        list[str] | None,
        _names(
            "clusters, cluster_size, effect, icc, a factor of several, rows or a dotted path; two numbers with a --cost."
        ),
    ] = None,
    between: Annotated[
        tuple[float, float] | None, typer.Option(help="Ends of the search.", show_default=False, metavar="LOW HIGH")
    ] = None,
    between_second: Annotated[
        tuple[float, float] | None,
        typer.Option(help="The same of the second --over.", show_default=False, metavar="LOW HIGH"),
    ] = None,
    cost: Annotated[
        str | None,
        typer.Option(
            help='Such as "300*clusters + 20*clusters*cluster_size", or "300*school + 5*rows" (how many in all).',
            show_default=False,
        ),
    ] = None,
    budget: Annotated[float | None, typer.Option(help="The most that a design may cost.", show_default=False)] = None,
    precision: Annotated[
        float, typer.Option(help="Width of the answer's interval that is enough, relative to it.")
    ] = 0.02,
    max_replications: Annotated[int, typer.Option(min=500, help="Of any design.")] = 200_000,
    step: Annotated[float | None, typer.Option(help="Only multiples of this.", show_default=False)] = None,
    alpha: Annotated[float | None, typer.Option(help=_ALPHA, show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, instead of the file's.", show_default=False)] = None,
    jobs: Annotated[int, typer.Option(min=-1, help="Worker threads; -1: one a core.")] = -1,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the designs tried [default: results/<name>-over-<axis>].", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help=_ALLOW_CODE)] = False,
) -> None:
    """Find the smallest design that reaches a target."""
    with _exit_codes():
        from .ready_made import study_path
        from .solve_command import Options, solve_command

        targets = {
            "power": power, "joint_power": joint_power, "width": width, "coverage": coverage, "bias": bias, "relbias": relbias,
        }  # fmt: skip
        options = Options(
            targets,
            estimand or (),
            method,
            over or (),
            (between, between_second),
            cost,
            budget,
            precision,
            max_replications,
            step,
        )
        solve_command(
            study_path(study), options, seed=seed, alpha=alpha, jobs=jobs, out=out, json_wanted=as_json,
            allow_code=allow_code,
        )  # fmt: skip


if __name__ == "__main__":
    main()
