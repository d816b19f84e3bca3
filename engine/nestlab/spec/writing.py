"""Tables as TOML text, for `study.toml` of a study that was made in Python or run with another seed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["to_toml", "toml_value"]


def to_toml(tables: Mapping[str, Any]) -> str:
    """TOML that reads back as `tables`: text, numbers, booleans, lists and tables of these.

    >>> print(to_toml({"name": "a", "design": {"clusters": 20}, "grid": {"truth.fixed.x": [0.0, 0.2]}}))
    name = "a"
    <BLANKLINE>
    [design]
    clusters = 20
    <BLANKLINE>
    [grid]
    "truth.fixed.x" = [0.0, 0.2]
    <BLANKLINE>
    """
    lines = [f"{_key(key)} = {toml_value(value)}" for key, value in tables.items() if not _is_table(value)]
    for key, value in tables.items():
        if not _is_table(value):
            continue
        for table in value if isinstance(value, list) else [value]:
            header = f"[[{_key(key)}]]" if isinstance(value, list) else f"[{_key(key)}]"
            lines += ["", header, *(f"{_key(name)} = {toml_value(item)}" for name, item in table.items())]
    return "\n".join(lines) + "\n"


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
    )


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _text(text: str) -> str:
    # JSON leaves DEL as it is, which TOML does not allow.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_value(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value, allow_nan=False)  # true, 5, 0.1, 1e-05 are the same in TOML
