"""A folder of results before anything in it is used: whether it holds any, the study as it was run, whether a run may go on.

Whoever reads a folder takes the study and the conditions from `read_as_run`, which refuses a study.toml that is not the study as
it was run: what is shown would not be what was computed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..fit.own_code import stored_digests
from ..spec.identity import data_key
from ..spec.model import Method
from ..spec.study import StudyFile
from .files import RefusedError, read_plain
from .lock import holder
from .plan import ChangedError, match_conditions, match_methods
from .store import Store, StoredCondition
from .sums import check_sums

__all__ = [
    "changes",
    "check_resumable",
    "no_results",
    "read_as_run",
    "solved_facts",
    "stored_solution",
    "stored_study",
    "study_facts",
]

#: Conditions that a refusal names.
NAMED = 3
#: Looks at a folder that another process is writing, and seconds between them: its files may be of two moments.
LOOKS, PAUSE = 10, 0.2


def stored_study(folder: Path, manifest: Mapping[str, Any]) -> StudyFile:
    """The study as it was run, with the digests of its code. RefusedError where a link or a device stands in its place."""
    with contextlib.suppress(FileNotFoundError):  # which from_toml tells in its own words
        read_plain(folder / "study.toml")
    return StudyFile.from_toml(folder / "study.toml").with_digests(stored_digests(manifest))


def no_results(folder: Path) -> RefusedError:
    """What is said of a folder that holds no results."""
    named = Path("results") / folder
    repair = (
        f'did you mean "{named}"?' if (named / "manifest.json").exists() else "run the study first: nestlab run STUDY"
    )
    return RefusedError(f"{folder} holds no results (no manifest.json); {repair}")


def resumed_by(manifest: Mapping[str, Any]) -> str:
    """Return what goes on with a folder: `nestlab run`, or the `nestlab solve` whose designs it holds."""
    return "nestlab run" if manifest.get("solve") is None else "the same nestlab solve"


def check_resumable(folder: Path) -> None:
    """RefusedError for a folder that `nestlab run` cannot go on with by itself: no results, or those of a search."""
    manifest = folder / "manifest.json"
    if not (folder / "study.toml").is_file() or (folder / "study.toml").is_symlink():
        raise RefusedError(f"{folder} holds no study.toml to go on with; name a study file")
    with contextlib.suppress(FileNotFoundError, ValueError, AttributeError, RecursionError):
        if json.loads(read_plain(manifest)).get("solve") is not None:
            raise RefusedError(f"{folder} holds the designs of a search; go on with it by the same nestlab solve")


def study_facts(study: StudyFile) -> dict[str, Any]:
    """Return what the manifest says of a study besides its conditions, methods and replications."""
    return {"name": study.name, "seed": study.seed, "keep": study.keep, "mcse": study.mcse}


def read_as_run(store: Store) -> tuple[StudyFile, list[StoredCondition]]:
    """Return the study as it was run and its stored conditions.

    RefusedError where study.toml or the manifest says something else than what is stored.
    """
    for look in range(LOOKS):
        study, rows = stored_study(store.folder, store.manifest), store.read_conditions()
        found = changes(study, store, rows)
        if not found:
            return study, rows
        if look == LOOKS - 1 or holder(store.folder) is None:
            break
        time.sleep(PAUSE)
        store.reread()
    raise RefusedError(
        f"{store.folder / 'study.toml'} is not the study as it was run: {'; '.join(found)}; restore it (or manifest.json, if "
        f"that was edited), or take the change in by nestlab run {store.folder}, where stored results can go on with it"
    )


def changes(study: StudyFile, store: Store, rows: Sequence[StoredCondition], *, every: bool = False) -> list[str]:
    """Return what a study says otherwise than what is stored, as "key: stored ..., now ...".

    Conditions are compared one by one where study.toml or conditions.parquet has no checksum, as it was edited or is of an
    older version; every: always.
    """
    manifest = store.manifest
    facts = {name: now for name, now in study_facts(study).items() if name in manifest}
    found = [_change(name, manifest[name], now) for name, now in facts.items() if manifest[name] != now]
    found += _methods(store, study.methods())
    if every or not (store.is_sealed("study.toml") and store.is_sealed("conditions.parquet")):
        found += _conditions(study, rows)
    found += _replications(study, manifest, rows)
    return list(dict.fromkeys(found))


def _change(key: str, stored: object, now: object) -> str:
    return f"{key}: stored {stored!r}, now {now!r}"


def _methods(store: Store, methods: Sequence[Method]) -> Iterator[str]:
    stored = [entry for entry in store.manifest["methods"] if entry.get("active", True)]
    try:
        listed = [entry for entry in match_methods(stored, methods) if entry["active"]]
    except ChangedError as error:
        yield from error.values
        return
    names = [", ".join(entry["name"] for entry in each) for each in (stored, listed)]
    if names[0] != names[1]:
        yield f"methods: stored {names[0]}, now {names[1]}"
        return
    for before, now in zip(stored, listed, strict=True):
        if before.get("alpha", now["alpha"]) != now["alpha"]:
            yield _change(f"method.{now['name']}.alpha", before["alpha"], now["alpha"])
    if store.keeps == "summary":
        try:
            check_sums(store, [], methods)
        except RefusedError as error:
            yield str(error)


def _conditions(study: StudyFile, rows: Sequence[StoredCondition]) -> Iterator[str]:
    """Name values and conditions that the study changed, has no longer, or has besides those that are stored."""
    conditions, active = study.conditions(), {row.data_key: row for row in rows if row.active}
    keys = {data_key(condition): condition for condition in conditions}
    if keys.keys() == active.keys() and len(active) == sum(row.active for row in rows):
        return
    try:
        match_conditions(rows, conditions, study.methods())
    except ChangedError as error:
        yield from error.values
        return
    lost = [f"condition {row.number}{_at(row.factors)}" for key, row in active.items() if key not in keys]
    new = [f"a condition{_at(condition.factors)}" for key, condition in keys.items() if key not in active]
    for listed, what in ((lost, "stored, and the study does not have it"), (new, "not stored, and the study has it")):
        yield from (f"{each}: {what}" for each in listed[:NAMED])
        if len(listed) > NAMED:
            yield f"and {len(listed) - NAMED:,} more"
    if not lost and not new:
        yield "conditions.parquet has a condition twice"


def _at(factors: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{name} = {value}' for name, value in factors.items())})" if factors else ""


def _replications(study: StudyFile, manifest: Mapping[str, Any], rows: Sequence[StoredCondition]) -> Iterator[str]:
    """Compare the number of replications, or the rule; by a rule or a search each condition has its own number."""
    rule = None if study.stopping is None else json.loads(json.dumps(study.stopping.entry()))
    if rule != (stored := manifest.get("stopping")):
        yield _change("replications", stored or manifest.get("replications"), rule or study.most_replications)
    elif rule is None and not manifest.get("own_replications"):
        asked = {row.replications for row in rows if row.active} if manifest.get("solve") is None else set()
        for number in dict.fromkeys([manifest.get("replications", study.most_replications), *sorted(asked)]):
            if number != study.most_replications:
                yield _change("replications", number, study.most_replications)


def stored_solution(store: Store) -> dict[str, Any] | None:
    """Return solve.json of a search that came to its answer, None in other folders.

    RefusedError where it was altered, is missing, or says something else than the manifest.
    """
    told, path = store.manifest.get("solve"), store.folder / "solve.json"
    if not isinstance(told, Mapping) or not told.get("sentence"):
        return None
    repair = "give the same nestlab solve again, which finds its replicates stored"
    try:
        data = read_plain(path)
        made: Any = json.loads(data)
        said = solved_facts(made)
    except FileNotFoundError:
        raise RefusedError(f"{path} is missing, and manifest.json has its answer; {repair}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RefusedError(f"{path} is damaged; {repair}") from None
    if not store.is_as_written(path.name, data):
        raise RefusedError(f"{path} was altered since it was written; {repair}")
    if changed := [_change(name, told[name], said[name]) for name in told if name in said and told[name] != said[name]]:
        raise RefusedError(f"{path} is not what manifest.json says of the answer: {'; '.join(changed)}; {repair}")
    return dict(made)


def solved_facts(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the manifest says of an answer, from what solve.json does."""
    answers = made.get("solutions", [made])
    return {
        **{key: made[key] for key in ("target", "estimand", "method", "over") if key in made},
        "solution": made.get("solution", [answer["solution"] for answer in answers]),
        "interval": made.get("interval"),
        "sentence": " ".join(answer["sentence"] for answer in answers),
    }
