"""`nestlab keys`: every key of a study file, from KEYS, for a terminal and as the page studies/KEYS.md."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.table import Table

from ..spec.keys import AXES, KEYS, Key, find_key
from ..spec.kinds import TABLE
from ..spec.problems import StudyError, nearest
from ..spec.writing import toml_value
from .terminal import terminal

__all__ = ["keys_command", "keys_page"]

_INTRO = """# Keys of a study file

Every key with what it takes. `nestlab keys NAME` prints those of a name or about a word (`nestlab keys alpha`, `nestlab keys
dropout`), and `nestlab keys --markdown` this page. What the keys for sizes, predictors, errors and missing rows mean together
is in [DATA.md](DATA.md).

The one that is asked for most: `alpha = 0.01`, the level of the tests of all methods, stands **at the top of the file**, before
the first `[table]`; in a `[[method]]` it holds for that method only.

`<name>`, `<term>`, `<group>`, `<column>` stand for names of your own. A number of the data is an axis of `[grid]` by its dotted
path, `"design.cluster_size.cv" = [0, 0.5]`; where a table has axes, keys marked with * are none.
"""
_COLUMNS = ("| key | takes | default | example | |", "| --- | --- | --- | --- | --- |")
#: A table with the keys of the one above it.
_AS_ABOVE = "design.cluster_size.arms.<arm>."
_CHANGES = {
    "data": "other data are drawn",
    "results": "the same data are fitted anew, where it bears on what is stored",
    "neither": "stored replicates stay as they are",
}


def keys_command(name: str | None, *, markdown: bool) -> None:
    """Print all keys by table, or those of a name in full; or, with markdown, the page of all.

    Raises StudyError for a name that no key has.
    """
    if markdown:
        print(keys_page(), end="")
        return
    console = terminal()
    if name is not None:
        console.print("\n\n".join("\n".join(_in_full(key)) for key in _named(name)), soft_wrap=True)
        return
    for place, keys in _tables():
        table = Table(title=place, title_justify="left", box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for key in keys:
            table.add_row(f"  {key.name}", key.text)
        console.print(table)
        console.print()
    console.print("nestlab keys NAME prints what one takes, with an example.")


def keys_page() -> str:
    """All keys as Markdown."""
    lines = [_INTRO]
    for place, keys in _tables():
        lines += [f"## `{place}`" if place.endswith(("]", "}")) else f"## {place}", "", *_COLUMNS]
        varies = any(_item(key).axis for key in keys)
        for key in keys:
            star = "*" if varies and not _item(key).axis and not key.below else ""
            cells = (f"`{key.name}`{star}", _takes(key), _default(key), f"`{_example(key)}`", key.text)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _tables() -> Iterator[tuple[str, list[Key]]]:
    """The tables by how a file opens them, with their keys."""
    found: dict[str, list[Key]] = {}
    for path, key in KEYS.items():
        if not path.endswith(">") and not path.startswith(_AS_ABOVE):
            found.setdefault(path.rpartition(".")[0], []).append(key)
    for table, keys in found.items():
        yield _place(table), keys
        if table == "":
            yield "[grid]", [*AXES.values()]


def _place(table: str) -> str:
    """How a file opens a table: "[design]", "[[method]]", or the key that it is the value of."""
    if table == "":
        return "At the top of the file"
    if table.startswith(("method", "contrast")):
        return f"[[{table.partition('.')[0]}]]"
    key = KEYS[table]
    return (
        f"[{table}]"
        if key.allowed == TABLE and table.count(".") < 3 and not key.takes_prior
        else f"{table} = {{ ... }}"
    )


def _item(key: Key) -> Key:
    """What a table has below each name, or a key itself."""
    return key.below.get("<>", key)


def _takes(key: Key) -> str:
    item = _item(key)
    text = f"{item.allowed}{', or a prior' if item.takes_prior else ''}"
    text += ", or a table" if item.below and item.allowed not in (TABLE, "a list of tables") else ""
    if item is key or key.allowed != TABLE:
        return key.allowed if item is not key else text
    return f"for each {item.path.rpartition('<')[2][:-1]} {text}"


def _default(key: Key) -> str:
    if key.required:
        return "required"
    return (
        f"`{toml_value(key.default)}`"
        if isinstance(key.default, str | bool | int | float) and key.default != ""
        else ""
    )


def _example(key: Key) -> str:
    if key.name in AXES and key.path == key.name:
        return f"{key.name} = [{toml_value(key.example)}]"
    return f"{key.name} = {toml_value(key.example)}"


def _named(name: str) -> list[Key]:
    """The keys of a path, of a name anywhere, or, where none has it, those whose lines speak of it."""
    here = find_key(name.split("."))
    everything = [*KEYS.values(), *AXES.values()]
    if here is not None and "." in name:
        return [here, *(key for key in here.below.values() if not key.path.endswith(">"))]
    found = [key for key in everything if key.name == name and not key.path.endswith(">")]
    found += [each for key in found for each in _item(key).below.values() if key.below and not each.path.endswith(">")]
    found = found or [key for key in everything if re.search(rf"\b{re.escape(name.lower())}", key.text.lower())]
    if not found:
        raise StudyError(
            [f"{name}: is no key of a study file; {nearest(name, dict.fromkeys(key.name for key in everything))}"]
        )
    return list(dict.fromkeys(found))


def _in_full(key: Key) -> Iterator[str]:
    axis = key.path in AXES
    place = "[grid]" if axis else _place(key.path.rpartition(".")[0])
    yield key.path
    yield f"  {key.text}"
    yield f"  takes    {_takes(key)}"
    if default := _default(key).strip("`"):
        yield f"  default  {default}"
    yield f"  place    {place[:1].lower() + place[1:]}, as {_example(key)}"
    if not axis:
        if key.axis:
            yield f'  axis     "{key.path}" = [...] in [grid]'
        yield f"  changed  {_CHANGES[key.part]}"
