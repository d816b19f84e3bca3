"""Pictures as files: the same bytes from the same numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...run.files import write_whole
from ...spec.problems import StudyError
from . import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ENDINGS", "as_svg", "save"]

# nothing that depends on the day
_METADATA: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None, "Creator": "nestlab"},
    ".pdf": {"CreationDate": None, "Creator": "nestlab", "Producer": None},
    ".png": {"Software": "nestlab"},
}
ENDINGS = tuple(_METADATA)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure whole or not at all, as .svg, .pdf or .png by the ending of its name. Raises StudyError for others."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise StudyError([f'out = "{path}": the name must end in {", ".join(ENDINGS)}; choose one of them'])
    data = _bytes(figure, path.suffix.lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    return path


def as_svg(figure: Figure) -> str:
    """The figure as SVG text, to stand in a page."""
    return _bytes(figure, ".svg").decode()


def _bytes(figure: Figure, ending: str) -> bytes:
    buffer = io.BytesIO()
    with style.context():
        figure.savefig(buffer, format=ending[1:], metadata=_METADATA[ending])
    return buffer.getvalue()
