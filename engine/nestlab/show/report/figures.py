"""Every plot of the results as an image that stands in the page itself."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..plots import KINDS, applicable, draw, save
from .material import Material

__all__ = ["Picture", "pictures"]

#: Bytes of an SVG above which a PNG is taken if that is smaller.
LARGE = 400_000


@dataclass(frozen=True, slots=True)
class Picture:
    """uri: data: of the image, in which nothing can run and whose ids meet no others."""

    kind: str
    text: str
    uri: str


def pictures(material: Material) -> Iterator[Picture]:
    """The figure of `nestlab solve` if there is one, then every kind of plot that the results allow."""
    solved = material.results.folder / "solve.svg"
    if solved.is_file():
        yield Picture("solve", "The search for the solution", _uri(solved.read_bytes(), "svg+xml"))
    if material.summary.empty:
        return
    for kind in applicable(material.results):
        yield Picture(kind, KINDS[kind], _image(material, kind))


def _image(material: Material, kind: str) -> str:
    figure = draw(material.results, kind)
    with tempfile.TemporaryDirectory() as folder:
        vector = _saved(figure, Path(folder) / "plot.svg")
        if len(vector) > LARGE:
            raster = _saved(figure, Path(folder) / "plot.png")
            if len(raster) < len(vector):
                return _uri(raster, "png")
    return _uri(vector, "svg+xml")


def _saved(figure: object, path: Path) -> bytes:
    save(figure, path)
    return path.read_bytes()


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
