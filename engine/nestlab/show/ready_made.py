"""Ready-made studies: files that come with nestlab and go by their names."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ..spec.problems import StudyError, nearest

__all__ = ["ReadyMade", "ready_made", "ready_made_path", "study_path", "summarise_ready_made"]


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """What the list of ready-made studies shows of one. replications: per condition, at most; methods: how many."""

    name: str
    title: str
    conditions: int
    replications: int
    methods: int


def ready_made() -> dict[str, Path]:
    """The file of each ready-made study, by name, sorted: in the package as installed, else in the checkout it is run from."""
    package = Path(str(files(__package__.partition(".")[0])))
    checkout = package.parents[1]
    folders = [package / "studies", *([checkout / "studies"] if (checkout / "pyproject.toml").is_file() else [])]
    found = next((folder for folder in folders if folder.is_dir()), None)
    return {} if found is None else {file.stem: file for file in sorted(found.glob("*.toml"))}


def ready_made_path(name: str) -> Path:
    """The file of one ready-made study. StudyError for a name that there is not."""
    known = ready_made()
    if name not in known:
        raise StudyError([f"study {name}: is no ready-made study; {nearest(name, known)}"])
    return known[name]


def study_path(text: str | Path) -> Path:
    """The study file that a word on the command line means: that file, NAME.toml beside it, or the ready-made study NAME.

    A file comes first, so that a copy that was edited is never passed over. StudyError, with what is near, if there is none.
    """
    path = Path(text)
    if path.exists() and not path.is_dir():
        return path
    bare = len(path.parts) == 1 and path.suffix != ".toml"
    if bare and (beside := Path(f"{path}.toml")).is_file():
        return beside
    if bare and str(path) in (known := ready_made()):
        return known[str(path)]
    if path.is_dir():
        return path  # whoever reads it says what is wrong
    raise StudyError([f"study file {path}: there is no such file, and no ready-made study of that name; {_near(path)}"])


def summarise_ready_made() -> list[ReadyMade]:
    """Each ready-made study, by name."""
    from ..spec.study import StudyFile

    found = []
    for name, path in ready_made().items():
        study = StudyFile.from_toml(path)
        found.append(
            ReadyMade(name, study.title, len(study.conditions()), study.most_replications, len(study.methods()))
        )
    return found


def _near(path: Path) -> str:
    """The repair: files and ready-made studies whose names are near, or where to look."""
    try:
        names = sorted(file.name for file in path.parent.glob("*.toml"))
    except OSError:
        names = []
    near = [str(path.parent / name) for name in difflib.get_close_matches(path.name, names, n=2, cutoff=0.5)]
    known = list(ready_made())
    alike = [path.stem] if path.stem in known else difflib.get_close_matches(path.stem, known, n=2, cutoff=0.6)
    guesses = [*map(_quoted, near), *(f"the ready-made {_quoted(name)}" for name in alike)]
    if guesses:
        return f"did you mean {' or '.join(guesses)}?"
    return "check the path, or see nestlab studies for the ready-made ones"


def _quoted(text: str) -> str:
    return f'"{text}"'
