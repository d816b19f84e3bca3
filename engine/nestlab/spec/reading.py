"""From a file or a plain dictionary to a validated model, with pydantic's complaints in the words of the study file."""

from __future__ import annotations

import copy
import difflib
import math
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .axes import SHORT_NAMES
from .problems import Problems, StudyError, nearest, show

__all__ = ["plain", "read_toml", "validate"]

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

# What stands in for a required value that is absent, so that the rest of the file can still be checked.
_STAND_INS = {"name": "study", "seed": 0, "replications": 1}


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
    """Tuples and arrays as lists, NumPy scalars as Python's: what a TOML file could have held.

    StudyError for what no study can mean and others would stumble over: tables within tables without end, and whole numbers
    that Python doesn't print.
    """
    if depth > _DEEPEST:
        raise StudyError(f"study: {_TOO_DEEP}")
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(item, depth + 1) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise StudyError(
            f"study: has a whole number of {int(value.bit_length() * math.log10(2)) + 1:,} digits; {_SHORTEN}"
        )
    return value


def validate(model: type[Model], data: dict[str, Any], problems: Problems) -> tuple[Model | None, set[str]]:
    """Validate tables; what is refused is reported, taken out, and the rest is validated again.

    Returns the model (None where too much is missing) and the dotted paths that were refused, which nobody should judge
    again.
    """
    data, suspects = copy.deepcopy(data), set[str]()
    for _ in range(5):
        try:
            return model.model_validate(data), suspects
        except ValidationError as error:
            faults = error.errors(include_url=False)
        for fault in faults:
            suspects.update(_report(model, fault, data, problems, suspects))
        for fault in sorted(
            faults, key=lambda f: [f"{w:09d}" if isinstance(w, int) else w for w in f["loc"]], reverse=True
        ):
            _take_out(data, fault["loc"], fault["type"])
    return None, suspects


def _report(
    model: type[BaseModel], fault: ErrorDetails, data: dict[str, Any], problems: Problems, suspects: set[str]
) -> list[str]:
    """Add one complaint; return the paths that it concerns."""
    location = fault["loc"]
    key, last = _dotted(location, data), str(location[-1])
    if fault["type"] == "extra_forbidden":
        guess = nearest(last, _known_keys(model, location[:-1]))
        if location[:2] == ("design", "cluster_size") and "arms" in data["design"]["cluster_size"]:
            guess = "write it in the table of each arm" if last in guess else guess
        elif location[0] == "design" and last in SHORT_NAMES:
            guess = f"write {last} in [grid], as an axis"
        problems.add_value(key, fault["input"], f"is no key of a study file; {guess}")
        found = re.fullmatch(r'did you mean "(.+)"\?', guess)
        return [key, *([f"{key.rpartition('.')[0]}.{found[1]}".lstrip(".")] if found else [])]
    if fault["type"] == "missing":
        if key in suspects:
            return []
        example = _LISTS.get(str(location[0]), {}).get(last) or _EXAMPLES.get(last, "...")
        problems.add(key, f"is missing; add {last} = {example}")
    else:
        reason = _reason(fault)
        if key == "design.clusters" and isinstance(fault["input"], list):
            reason = f"{reason.partition(';')[0]}; write several in [grid], as an axis"
        problems.add_value(key, fault["input"], reason)
    return [key, *_concerned(location)]


#: Tables that come in lists, [[...]], with examples of what they must have.
_LISTS = {
    "method": {"name": '"reml"'},
    "contrast": {"name": '"simple slope"', "weights": '{ x = 1, "x:z" = 1 }'},
}
_EXAMPLES = {
    "name": '"study"',
    "seed": "707",
    "replications": "2000",
    "target_mcse": "0.005",
    "measure": '"power"',
    "truth": "{ formula = ..., ... }, written as the table [truth]",
    "formula": '"y ~ x + (1 | cluster)"',
}


def _reason(fault: ErrorDetails) -> str:
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    top = str(fault["loc"][0])
    if top in _LISTS and fault["type"] == "model_type":
        return f"must be a table; write [[{top}]] and its keys below"
    if fault["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return f"must be a table; write [{'.'.join(map(str, fault['loc']))}] and its keys below"
    if fault["loc"][-1] == "arms":
        return "must be a list, a size for each arm; write arms = [1, 20], say"
    if fault["type"] in ("list_type", "tuple_type"):
        return f"must be a list of tables; write [[{top}]] before each"
    return f"{fault['msg'].lower()}; correct it"


def _dotted(location: Location, data: Mapping[str, Any]) -> str:
    """The dotted path of a location; a method or contrast goes by its name where it has one, else by its place."""
    words = [str(word + 1 if isinstance(word, int) else word) for word in location]
    if len(location) > 1 and location[0] in _LISTS and isinstance(location[1], int):
        table = data[str(location[0])][location[1]]
        name = table.get("name") if isinstance(table, Mapping) else None
        if isinstance(name, str) and name and location[-1] != "name":
            words[1] = name
    return ".".join(words)


def _concerned(location: Location) -> list[str]:
    """The keys that a refused value would have given under another name."""
    match location:
        case ["truth", "random", group, *_]:
            return [f"truth.random.{group}"]
        case ["truth", "residual_sd"]:
            return ["truth.residual_variance"]
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


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys of the table at a location."""
    table: type[BaseModel] = model
    for word in location:
        field = table.model_fields.get(str(word))  # none for a place in a list, and for a name that a user gave
        table = table if field is None else _table_in(field.annotation) or table
    return [key for key in table.model_fields if key != "source"]


def _table_in(kind: Any) -> type[BaseModel] | None:
    """The first table that may be a value of this kind, or an item of it."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((table for part in get_args(kind) if (table := _table_in(part))), None)


def _take_out(data: dict[str, Any], location: Location, kind: str) -> None:
    """Remove what was refused, or stand in for what is required."""
    holder: Any = data
    for word in location[:-1]:
        holder = holder[word]
    last = location[-1]
    if kind == "missing" or last in _STAND_INS:
        if last in _STAND_INS:
            holder[last] = _STAND_INS[str(last)]
    elif location[:-1] == ("predictors",):
        holder[last] = {}
    elif isinstance(holder, list):
        del holder[int(last)]
    elif isinstance(holder, dict):
        holder.pop(last, None)
