"""The page itself: one HTML file that asks the network for nothing.

Its Content-Security-Policy lets through the style and the script that stand in it, by their hashes, and images from data: URIs.
Text goes through jinja2 with autoescape on.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .figures import EmbeddedPicture
from .findings import Finding
from .material import Section
from .payload import in_script

__all__ = ["Page", "render"]


@dataclass(frozen=True, slots=True)
class Page:
    """All that stands on the page. notices: what a reader has to know first; table: `payload.table_payload`."""

    title: str
    name: str
    facts: tuple[str, ...]
    notices: tuple[str, ...]
    findings: tuple[tuple[str, tuple[Finding, ...]], ...]
    pictures: tuple[EmbeddedPicture, ...]
    table: dict[str, Any]
    method_sections: Sequence[Section]
    provenance: Section
    failures_anchor: str


def render(page: Page) -> str:
    """The page as HTML text."""
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        loader=PackageLoader("nestlab.show.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["code"] = lambda block: hasattr(block, "text") and hasattr(block, "caption")
    environment.tests["table"] = lambda block: hasattr(block, "header")
    return environment.get_template("template.html").render(
        page=page, policy=Markup(policy), style=Markup(style), script=Markup(script), data=Markup(in_script(page.table))
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Of an inline element, as a policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
