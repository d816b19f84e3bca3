"""Pictures as files: the same bytes from the same numbers."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from ...run.files import write_whole
from ...spec.problems import StudyError
from . import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ENDINGS", "alt_text", "as_svg", "save"]

# nothing that depends on the day
_METADATA: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None, "Creator": "nestlab"},
    ".pdf": {"CreationDate": None, "Creator": "nestlab", "Producer": None},
    ".png": {"Software": "nestlab"},
}
#: Where a file has the title, and what is seen.
_WORDS: dict[str, tuple[str, ...]] = {".svg": (), ".pdf": ("Title", "Subject"), ".png": ("Title", "Description")}
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


def alt_text(figure: Figure) -> str:
    """What is seen on a picture: its title, then which measure, over what, from where to where."""
    return ". ".join(part for part in str(figure.get_label()).split("\n") if part)


def as_svg(figure: Figure) -> str:
    """The figure as SVG text, to stand in a page."""
    return _bytes(figure, ".svg").decode()


def _bytes(figure: Figure, ending: str) -> bytes:
    buffer = io.BytesIO()
    title, _, text = str(figure.get_label()).partition("\n")
    words = {key: said for key, said in zip(_WORDS[ending], (title, text), strict=False) if said}
    with style.context():
        figure.savefig(buffer, format=ending[1:], metadata=_METADATA[ending] | words)
    data = buffer.getvalue()
    if ending != ".svg" or not title:
        return data
    # one image with a name and a description, of which a screen reader need not read every tick
    head = f"<title>{escape(title)}</title>\n <desc>{escape(text)}</desc>"
    return re.sub("<svg ([^>]*)>", lambda m: f'<svg role="img" {m[1]}>\n {head}', data.decode(), count=1).encode()
