"""`nestlab plot`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..run.files import make_folder
from ..spec.problems import StudyError
from .answer import ANSWER
from .api import Results
from .plots import draw, save
from .plots.choose import pick
from .plots.files import ENDINGS
from .plots.kinds import KINDS

__all__ = ["plot_command"]


def plot_command(folder: Path, kind: str | None, *, out: Path | None, words: Mapping[str, Any], **asked: Any) -> str:
    """Draw one picture and write it; the line about fits that are missing from it, if any.

    kind: None: the search of a folder that `nestlab solve` wrote, unless something else is asked for; power of others.
    words: title, labels, caption and size, where they are not those that are written.
    """
    plain = all(value is None for value in asked.values())
    kind = kind or ("solve" if plain and (folder / ANSWER).is_file() else "power")
    pick("kind", kind, KINDS, what="the kinds are")
    if out is not None and out.suffix.lower() not in ENDINGS:
        raise StudyError([f'out = "{out}": the name must end in {", ".join(ENDINGS)}; choose one of them'])
    results = Results(folder)
    figure = draw(results, kind, **asked, **words)
    paths = [out] if out is not None else [folder / "plots" / f"{kind}{ending}" for ending in (".svg", ".png")]
    if out is None:
        make_folder(folder / "plots")
    for path in paths:
        print(f"written to {save(figure, path)}", file=sys.stderr)
    return results.incomplete
