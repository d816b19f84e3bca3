"""Every plot of the results as an image that stands in the page itself."""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...spec.model import INTERCEPT
from ..plots import KINDS, alt_text, applicable, as_svg, draw, save
from .material import Material

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EmbeddedPicture", "pictures"]

#: Bytes of an SVG above which a PNG is taken if that is smaller.
LARGE = 400_000
#: Inches of a figure that has the whole width of a page.
WIDE = 8.0
#: Tested effects that are drawn.
MOST_ESTIMANDS = 4


@dataclass(frozen=True, slots=True)
class EmbeddedPicture:
    """alt: what is seen; uri: data: of the image, in which nothing can run and whose ids meet no others.

    wide: its text is small in half a page.
    """

    kind: str
    text: str
    uri: str
    alt: str
    wide: bool = False


def pictures(material: Material) -> Iterator[EmbeddedPicture]:
    """Every kind of plot that the results allow, the search of `nestlab solve` first if there was one."""
    if material.summary.empty:
        return
    for kind in applicable(material.results):
        for asked, words in _asked(material, kind):
            figure = draw(material.results, kind, **asked)
            yield EmbeddedPicture(
                kind, f"{KINDS[kind]}{words}", _image(figure), alt_text(figure), bool(figure.get_figwidth() >= WIDE)
            )


def _asked(material: Material, kind: str) -> Iterator[tuple[dict[str, Any], str]]:
    """What to draw of a kind: of power, coverage and bias every effect that is tested, of any measure the relative error."""
    whole = material.whole
    whole = whole[whole["value"].notna()]
    measure = {"power": "power", "coverage": "cover", "bias": "bias"}.get(kind)
    if measure is not None:
        tested = whole.loc[whole["measure"] == "power", "estimand"]
        there = set(whole.loc[whole["measure"] == measure, "estimand"])
        wanted = [e for e in material.results.interest.in_order(tested) if e in there and e != INTERCEPT][
            :MOST_ESTIMANDS
        ]
        if wanted:
            yield from (({"estimand": e}, f": {e}") for e in wanted)
            return
    if kind == "measure" and (whole["measure"] == "relerror").any():
        yield {"measure": "relerror"}, ": relative error of the model's standard errors, in percent"
        return
    yield {}, ""


def _image(figure: Figure) -> str:
    """A data URI of the SVG; of a PNG where that is smaller than a large SVG."""
    vector = _numbered(as_svg(figure)).encode()
    if len(vector) <= LARGE:
        return _uri(vector, "svg+xml")
    with tempfile.TemporaryDirectory() as folder:
        raster = save(figure, Path(folder) / "plot.png").read_bytes()
    return _uri(raster, "png") if len(raster) < len(vector) else _uri(vector, "svg+xml")


def _numbered(svg: str) -> str:
    """Clip paths named in order: matplotlib's own names of some depend on addresses in memory."""
    names = {name: f"clip{k}" for k, name in enumerate(dict.fromkeys(re.findall(r'<clipPath id="([^"]+)"', svg)))}
    return re.sub(r'(id="|url\(#)(p[0-9a-f]+)(?=["\)])', lambda m: m[1] + names.get(m[2], m[2]), svg)


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
