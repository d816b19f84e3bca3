"""From a file or a plain dictionary to a validated model, with pydantic's complaints in the words of the study file."""

from __future__ import annotations

import copy
import difflib
import math
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .keys import AXES, STUDY, find_key
from .problems import Problems, StudyError, close_match, nearest, show
from .tables import ContrastTable, MethodTable
from .writing import toml_value

__all__ = ["plain", "read_toml", "validate"]

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

# What stands in for a required value that is absent, so that the rest of the file can still be checked.
_STAND_INS = {"name": "study", "seed": 0, "replications": 1}


#: Keys of all tables together; studies of hundreds of methods have fewer.
_MOST_KEYS = 5000
_MOST_BYTES = 10**9
_DEEPEST = 30
_MOST_DIGITS = sys.int_info.default_max_str_digits
_MOST_BITS = int(_MOST_DIGITS / math.log10(2))
_TOO_DEEP = f"must have at most {_DEEPEST} tables or lists within one another; remove the inner ones"
_SHORTEN = "write a shorter one"
#: A key of so many parts takes tomllib time with the square of their number.
_MANY_PARTS = re.compile(rf"^[\s\[]*(?:[\w-]+[ \t]*\.[ \t]*){{{_DEEPEST}}}", re.MULTILINE)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file in UTF-8. StudyError if there is none."""
    path = Path(path)
    where = f"study file {path}"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise StudyError([f"{where}: must have at most {_MOST_BYTES // 10**9} GB; name the file of a study"])
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise StudyError([f"{where}: there is no such file; {_near_file(path)}"]) from None
    except IsADirectoryError:
        raise StudyError([f"{where}: is a folder; name a .toml file in it"]) from None
    except OSError as error:
        raise StudyError([f"{where}: cannot be read ({error.strerror}); check its permissions"]) from None
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        raise StudyError([f"{where}: must be UTF-8 text, and has {byte}; save it as UTF-8"]) from None
    try:
        if _MANY_PARTS.search(text):
            raise RecursionError
        return tomllib.loads(text.replace("\r\n", "\n"))
    except RecursionError:
        raise StudyError([f"{where}: {_TOO_DEEP}"]) from None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(r"\(at line (\d+), column (\d+)\)", message)
        reason = message.partition(" (at ")[0]
        number = int(place[1]) if place else text.count("\n") + 1
        line = text.splitlines()[number - 1].strip() if number <= len(text.splitlines()) else ""
        raise StudyError(
            [f"{where}, line {number}: must be TOML, and {show(line)} is not ({reason}); correct that line"]
        ) from None
    except ValueError:  # Python's limit of digits
        raise StudyError([f"{where}: has a whole number of more than {_MOST_DIGITS:,} digits; {_SHORTEN}"]) from None


def _near_file(path: Path) -> str:
    try:
        names = sorted(file.name for file in path.parent.glob("*.toml"))
    except OSError:
        names = []
    found = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f'did you mean "{path.parent / found[0]}"?' if found else "check the path"


def plain(value: Any, depth: int = 0) -> Any:
    """Tuples and arrays as lists, NumPy scalars as Python's, no None and no negative zero: what a TOML file could have held.

    StudyError for what no study can mean and others would stumble over: tables within tables without end, and whole numbers
    that Python doesn't print.
    """
    if depth > _DEEPEST:
        raise StudyError(f"study: {_TOO_DEEP}")
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple | range):
        return [plain(item, depth + 1) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), depth + 1)
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise StudyError(
            f"study: has a whole number of {int(value.bit_length() * math.log10(2)) + 1:,} digits; {_SHORTEN}"
        )
    return value + 0.0 if isinstance(value, float) else value


def validate(model: type[Model], data: dict[str, Any], problems: Problems) -> tuple[Model | None, set[str]]:
    """Validate tables; what is refused is reported, taken out, and the rest is validated again.

    Returns the model (None where too much is missing) and the dotted paths that were refused, which nobody should judge
    again.
    """
    tables = list(_tables(data))
    if (count := sum(keys for _, keys in tables)) > _MOST_KEYS:
        path, most = max(tables, key=lambda table: table[1])
        many = f"is one of {count} keys of the study ({most} in one table)"
        text = f"{many}, and at most {_MOST_KEYS} are possible; remove those that no study has"
        problems.add(path, text)
        return None, set()
    data, suspects = copy.deepcopy(data), set[str]()
    for _ in range(5):
        try:
            return model.model_validate(data), suspects
        except ValidationError as error:
            told = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] == "missing")
        faults = _by_place(told, data)
        for place, found in faults.items():
            suspects.update(_report(place, found, data, problems, suspects))
        for place in sorted(faults, key=lambda p: [f"{w:09d}" if isinstance(w, int) else w for w in p], reverse=True):
            _take_out(data, place, faults[place][0]["type"])
    return None, suspects


def _tables(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """The last key of each table and their number, but for cases and levels of the grid, which may be many."""
    if isinstance(value, Mapping):
        items = {f"{path}.{key}".lstrip("."): item for key, item in value.items() if key != "cases"}
        if items:
            yield next(reversed(items)), len(items)
        for inner, item in items.items():
            yield from _tables(item, inner)
    elif isinstance(value, list) and not path.startswith("grid."):
        for item in value:
            if isinstance(item, Mapping):
                yield from _tables(item, path)


def _by_place(faults: Sequence[ErrorDetails], data: Mapping[str, Any]) -> dict[Location, list[ErrorDetails]]:
    """Complaints by the key at fault: those of a value's parts, or of one type in a union, are the key's own."""
    found: dict[Location, list[ErrorDetails]] = {}
    for fault in faults:
        place: list[int | str] = []
        key = STUDY
        value: Any = data
        for word in fault["loc"]:
            if str(word).startswith("<") and not (isinstance(value, Mapping) and word in value):
                continue  # a kind of value that the key may have
            below = find_key([word], key)
            if below is None and fault["type"] != "extra_forbidden":
                break
            place.append(word)
            if below is None:
                break
            inside: Any = value
            value = (
                inside.get(word) if isinstance(inside, Mapping) else None
            )  # no list holds tables of a user's own names
            key = below
        found.setdefault(tuple(place), []).append(fault)
    return found


def _report(
    place: Location, faults: Sequence[ErrorDetails], data: dict[str, Any], problems: Problems, suspects: set[str]
) -> list[str]:
    """Add the complaints about one key; return the paths that they concern."""
    path, last, kind = _dotted(place, data), str(place[-1]), faults[0]["type"]
    if kind == "extra_forbidden":
        holder = find_key(place[:-1])
        guess = nearest(last, [name for name in (holder.below if holder else ()) if name != "source"])
        if place[:2] == ("design", "cluster_size") and "arms" in data["design"]["cluster_size"]:
            guess = "write it in the table of each arm" if last in guess else guess
        elif place[0] == "design" and last in AXES:
            guess = f"write {last} in [grid], as an axis"
        problems.add_value(path, faults[0]["input"], f"is no key of a study file; {guess}")
        found = re.fullmatch(r'did you mean "(.+)"\?', guess)
        return [path, *([f"{path.rpartition('.')[0]}.{found[1]}".lstrip(".")] if found else [])]
    key = find_key(place)
    assert key is not None, place
    if kind == "missing":
        if path in suspects:
            return []
        example = "{ formula = ..., ... }, written as the table [truth]" if path == "truth" else toml_value(key.example)
        problems.add(path, f"is missing; add {last} = {example}")
        return [path]
    value = _value_at(place, data)
    reason = key.refusal(value, faults, path)
    if key.annotation in (MethodTable, ContrastTable):
        reason = f"must be a table; write [[{place[0]}]] and its keys below"
    elif path == "design.clusters" and isinstance(value, list):
        reason = f"{reason.partition(';')[0]}; write several in [grid], as an axis"
    problems.add_value(path, value, reason)
    return [path, *_concerned(place)]


def _value_at(place: Location, data: Any) -> Any:
    for word in place:
        data = data[word]
    return data


def _dotted(place: Location, data: Mapping[str, Any]) -> str:
    """The dotted path of a place; a method or contrast goes by its name where it has one, else by its place."""
    words = [str(word + 1 if isinstance(word, int) else word) for word in place]
    if len(place) > 1 and place[0] in ("method", "contrast") and isinstance(place[1], int):
        table = data[str(place[0])][place[1]]
        name = table.get("name") if isinstance(table, Mapping) else None
        if isinstance(name, str) and name and place[-1] != "name":
            words[1] = name
    return ".".join(words)


def _concerned(location: Location) -> list[str]:
    """The keys that a refused value would have given under another name."""
    match location:
        case ["truth", "random", group, *_]:
            return [f"truth.random.{group}"]
        case ["truth", "residual_sd"]:
            return ["truth.residual_variance"]
        case ["truth", "baseline"]:
            return ["truth.fixed.Intercept"]
        case ["truth", "family"]:
            own = ("link", "trials", "exposure", "baseline", "fixed", "residual_variance")
            return [f"truth.{key}" for key in own]
        case ["truth", "outcome", *keys]:
            follows = {
                "icc": "truth.random",
                "variance": "truth.residual_variance",
                "r2_within": "truth.fixed",
                "r2_between": "truth.fixed",
            }
            return [path for key, path in follows.items() if key in keys or not keys]
        case ["design", "cluster_size", *_]:
            return ["design.cluster_size"]
    return []


def _take_out(data: dict[str, Any], location: Location, kind: str) -> None:
    """Remove what was refused, read a misspelled key as the one that was meant, or stand in for what is required."""
    holder: Any = data
    for word in location[:-1]:
        holder = holder[word]
    last = location[-1]
    above = find_key(location[:-1])
    guess = close_match(str(last), above.below) if above and kind == "extra_forbidden" else None
    if guess and guess not in holder:
        holder[guess] = holder.pop(last)
    elif kind == "missing" or last in _STAND_INS:
        if last in _STAND_INS:
            holder[last] = _STAND_INS[str(last)]
    elif location[:-1] == ("predictors",):
        holder[last] = {}
    elif isinstance(holder, list):
        del holder[int(last)]
    elif isinstance(holder, dict):
        holder.pop(last, None)
