"""What people call the levels of grouping factors: "18 schools of 4 classes of 25 rows"."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from ..spec.axes import number_word
from ..spec.model import Condition, Grouping, Structure
from ..spec.several import rows_of

__all__ = ["axis_of", "counted", "design_lines", "number_text", "structure_text"]


#: What a predictor without a factor lives on.
ROWS = "rows"


def axis_of(name: str, group: str = "") -> str:
    """What the axis of a number of levels, or of rows in one, is called; "" for other factors of a grid.

    group: the grouping factor of a study that has one.

    >>> axis_of("clusters", "school"), axis_of("cluster_size", "class"), axis_of("clusters", "g"), axis_of("icc", "school")
    ('Number of schools', 'Rows per class', 'Number of clusters', '')
    >>> axis_of("clusters.class"), axis_of("size.class"), axis_of("rows"), axis_of("icc.class")
    ('Number of classes', 'Size of class', 'Rows per cell', 'ICC of class')
    """
    match name.removeprefix("design.").split(".", 1):
        case ["rows"]:
            return "Rows per cell"
        case ["icc", factor]:
            return f"ICC of {factor}"
        case ["clusters", factor]:
            return f"Number of {_several(factor)}"
        case ["factors", factor]:
            return f"Number of {_several(factor.removesuffix('.number'))}"
        case ["size", factor]:
            return f"Size of {factor}"
    word = group if re.fullmatch("[a-z]{3,}", group) else "cluster"
    return {"clusters": f"Number of {_plural(word)}", "cluster_size": f"Rows per {word}"}.get(
        name.removeprefix("design."), ""
    )


def counted(number: float, factor: str) -> str:
    """A number of levels of a factor, or of rows.

    >>> counted(1, "class"), counted(1200, "class"), counted(3, "ward_id"), counted(25, "rows")
    ('1 class', '1,200 classes', '3 levels of ward_id', '25 rows')
    """
    if number == 1 and re.fullmatch("[a-z]{3,}", factor):
        return f"1 {'row' if factor == 'rows' else factor}"
    return f"{number:,} {_several(factor)}"


def number_text(axis: str, number: float, structure: Structure | None) -> str:
    """A number that an axis of `number_axes` has, where the design has several grouping factors.

    >>> from ..spec.model import Grouping
    >>> made = Structure((Grouping("school", 8), Grouping("class", 16, "school")), ((8,), (2,) * 8), 25)
    >>> [number_text(axis, 3, made) for axis in ("clusters.school", "clusters.class", "rows")]
    ['3 schools', '3 classes per school', '3 rows per class']
    """
    word = number_word(axis)
    holder = None
    if structure is not None:
        holder = _cell(structure) if axis == "rows" else structure.grouping(word).within
    return counted(number, word) + (f" per {holder}" if holder else "")


def structure_text(structure: Structure) -> str:
    """The whole design in words.

    >>> from ..spec.model import Grouping
    >>> structure_text(Structure((Grouping("school", 8), Grouping("class", 16, "school")), ((8,), (2,) * 8), 25))
    '8 schools of 2 classes of 25 rows'
    >>> structure_text(Structure((Grouping("subject", 30), Grouping("item", 10)), ((30,), (10,)), 1))
    '30 subjects crossed with 10 items, 1 row per cell'
    >>> from ..spec.model import Joined
    >>> primary, secondary = Grouping("primary", 9), Grouping("secondary", 4)
    >>> structure_text(Structure((primary, secondary), ((9,), (4,)), 20, joined=(("secondary", Joined("primary")),)))
    '9 primaries of 20 rows, each row in one of 4 secondaries'
    """
    if structure.listed:
        levels = ", ".join(counted(each.levels, each.name) for each in structure.groupings)
        return f"{levels} in {counted(structure.rows, 'rows')}"
    text = " crossed with ".join(_nested(structure, each.name) for each in _cells(structure) if each.within is None)
    rows = counted(structure.rows, "rows")
    if len(set(structure.sizes)) > 1:
        rows = f"{min(structure.sizes)} to {counted(max(structure.sizes), 'rows')}"
    rows = f"about {rows}" if "" in dict(structure.drawn) else rows
    text = f"{text}, {rows} per cell" if _cell(structure) == "cell" else f"{text} of {rows}"
    return text + "".join(
        f", each row in one of {counted(structure.grouping(n).levels, n)}" for n, _ in structure.joined
    )


def design_lines(conditions: Sequence[Condition]) -> list[str]:
    """What people are told of a study's first design of several grouping factors, and where its predictors live."""
    first = conditions[0]
    structure = first.structure
    if structure is None:
        return []
    where = " of the first condition" if len({condition.structure for condition in conditions}) > 1 else ""
    about = "about " if structure.drawn else ""
    whole = "" if structure.listed else f" ({about}{counted(rows_of(structure), 'rows')} in all)"
    lines = [f"design{where}: {structure_text(structure)}{whole}"]
    if first.predictors:
        lines.append(f"predictors: {', '.join(f'{p.name} of {p.at or ROWS}' for p in first.predictors)}")
    return lines


def _nested(structure: Structure, name: str) -> str:
    numbers = structure.numbers[structure.names.index(name)]
    equal = min(numbers) == max(numbers)
    text = counted(numbers[0], name) if equal else f"{min(numbers)} to {counted(max(numbers), name)}"
    text = f"about {text}" if name in dict(structure.drawn) else text
    inner = [_nested(structure, each.name) for each in _cells(structure) if each.within == name]
    return f"{text} of {' and of '.join(inner)}" if inner else text


def _cells(structure: Structure) -> list[Grouping]:
    """The factors that divide the rows into cells."""
    return [each for each in structure.groupings if each.name not in dict(structure.joined)]


def _cell(structure: Structure) -> str:
    """What holds the rows: the innermost factor where each lies in the one before, else a cell."""
    groupings = _cells(structure)
    chain = all(a.name == b.within for a, b in itertools.pairwise(groupings)) and not groupings[0].within
    return groupings[-1].name if chain else "cell"


def _several(factor: str) -> str:
    if factor == "rows":
        return factor
    return _plural(factor) if re.fullmatch("[a-z]{3,}", factor) else f"levels of {factor}"


def _plural(word: str) -> str:
    """Several of a thing, by the rules of spelling; a name that is a plural already stays as it is.

    >>> [_plural(word) for word in ("family", "class", "clinic", "day", "schools")]
    ['families', 'classes', 'clinics', 'days', 'schools']
    """
    if re.search("[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    if re.search("(ss|x|ch|sh)$", word):
        return f"{word}es"
    return word if word.endswith("s") else f"{word}s"
