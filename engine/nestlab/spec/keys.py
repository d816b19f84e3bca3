"""KEYS: every key of a study file, read off the tables' fields.

A key's path is dotted, with `<name>` where the user gives a name: "predictors.<name>.mean". `nestlab keys` and the reference
print them; reading, axes and "did you mean" find them by `find_key`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from .kinds import TABLE, Holds, KeyTable, Part, allowed, unwrapped, words_of
from .problems import close_match, meant
from .stated import looks_like_effect
from .tables import AxisTable, StudyTable
from .values import MayBePrior
from .writing import toml_value

__all__ = ["AXES", "KEYS", "STUDY", "Key", "find_key"]

_NO_PRIOR = (
    "a prior may stand for effects, variances and correlations of the truth only: write a value, or several as an axis of "
    "the grid"
)


@dataclass(frozen=True, eq=False)
class Key:
    """One key: its type (`annotation`), its default (PydanticUndefined where it is required), a line for people, an example.

    part: of which identity its value is. axis: whether the grid may vary it. below: the keys of the tables that it may hold, by
    name; "<>" for any name.
    """

    path: str
    annotation: Any
    default: Any = None
    text: str = ""
    example: Any = None
    part: Part = "neither"
    axis: bool = False
    below: Mapping[str, Key] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def required(self) -> bool:
        return self.default is PydanticUndefined

    @cached_property
    def allowed(self) -> str:
        """The values that it takes, in words."""
        return allowed(self.annotation)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of which its value is one; () where it takes others."""
        return tuple(map(str, words_of(self.annotation)))

    @cached_property
    def takes_prior(self) -> MayBePrior | None:
        """How a prior is read in its place, if one may stand there."""
        return next((note for note in unwrapped(self.annotation)[1] if isinstance(note, MayBePrior)), None)

    @cached_property
    def _type(self) -> TypeAdapter[Any]:
        present = [each for each in get_args(self.annotation) if each is not type(None)]
        return TypeAdapter(present[0] if type(None) in get_args(self.annotation) else self.annotation)

    def accepts(self, value: object) -> bool:
        """Whether it takes a value as it is."""
        try:
            self._type.validate_python(value)
        except ValidationError:
            return False
        return True

    def check(self, value: object) -> Any:
        """The value as it is kept. ValueError, with what is allowed and the repair, if it takes no such value."""
        try:
            return self._type.validate_python(value)
        except ValidationError as error:
            raise ValueError(self.refusal(value, error.errors(include_url=False))) from None

    def check_prior(self, value: object) -> Any:
        """The prior that a table describes; ValueError if none may stand here, or it is none."""
        if self.takes_prior is None:
            raise ValueError(f"must be {self.allowed}; {_NO_PRIOR}")
        return self.takes_prior.prior(value)

    def refusal(self, value: object, faults: Sequence[ErrorDetails] = (), at: str = "") -> str:
        """What must hold of its value, and the repair; what a check of its own says comes first. at: its path in the file."""
        texts = {str(fault["ctx"]["error"]) for fault in faults if fault["type"] == "value_error"} - {""}
        if len(texts) == 1:
            return texts.pop()
        inside = self.below.get("distribution")
        if isinstance(value, str) and inside and value in inside.words:
            return f'must be a table; write {{ distribution = "{value}", ... }}'
        repair = self.repair(value)
        if repair == self.usual and self.allowed == TABLE:
            repair = f"write [{at or self.path}] and its keys below"
        return f"must be {self.allowed}; {repair}"

    def repair(self, value: object) -> str:
        """What to write in place of a value that it does not take."""
        if isinstance(value, Mapping):
            if looks_like_effect(value) and self.takes_prior:
                return "name the axis by the unit, truth.fixed.<term>.d or .r2, and list numbers"
            if "distribution" in value and not self.below:
                return _NO_PRIOR
        number = _number(value) if isinstance(value, str) else None
        if number is not None and self.accepts(number):
            return f"write {str(value).strip()} without quotes"
        if isinstance(value, float) and value.is_integer() and self.accepts(int(value)):
            return f"write {int(value)}"
        if isinstance(value, str) and (guess := close_match(value, self.words)):
            return meant(guess, value)
        return self.usual

    @cached_property
    def usual(self) -> str:
        """What to write where nothing more is known."""
        base, notes = unwrapped(self.annotation)
        if said := next((note.repair for note in notes if getattr(note, "repair", "")), ""):
            return str(said)
        if base is bool:
            return "write true or false, without quotes"
        if base is str and not self.words:
            return "write it in quotes"
        if self.words and self.default is not None and not self.required:
            return f"remove it for {toml_value(self.default)}"
        if self.words:
            return "use one of these"
        return f"write {toml_value(self.example)}, say"


def _number(text: str) -> int | float | None:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None


def _tables_in(annotation: Any) -> Iterator[type[KeyTable]]:
    """The tables that may be a value of this type, or an item of it."""
    base, notes = unwrapped(annotation)
    yield from (note.table for note in notes if isinstance(note, Holds))
    if isinstance(base, type) and issubclass(base, KeyTable):
        yield base
    for inside in get_args(base):
        yield from _tables_in(inside)


def _keys_of(annotation: Any, path: str) -> dict[str, Key]:
    """The keys of the tables that may be a value of this type."""
    return {
        name: _key(f"{path}{name}", each, table)
        for table in _tables_in(annotation)
        for name, each in table.model_fields.items()
    }


def _key(path: str, found: FieldInfo, table: type[KeyTable]) -> Key:
    extra: Any = found.json_schema_extra
    annotation = Annotated[found.annotation, *found.metadata] if found.metadata else found.annotation
    part = extra["part"] or table.part
    axis = part == "data" and extra["axis"] and allowed(annotation) != TABLE
    text, example = found.description or "", (found.examples or [None])[0]
    if not extra["each"]:
        return Key(path, annotation, found.default, text, example, part, axis, _keys_of(annotation, f"{path}."))
    item, here = _item_of(annotation), f"{path}.<{extra['each']}>"
    plain = isinstance(example, int | float)  # one number may stand for all
    one = example if plain else next(iter(example.values() if isinstance(example, dict) else example))
    varies = part == "data" and allowed(item) != TABLE
    below = {"<>": Key(here, item, None, text, one, part, varies, _keys_of(item, f"{here}."))}
    return Key(path, annotation, found.default, text, example, part, plain and varies, below)


def _item_of(annotation: Any) -> Any:
    """The type of what a table or a list holds; of several types, the last one's."""
    base = unwrapped(annotation)[0]
    last = get_args(base)[-1]
    return get_args(unwrapped(last)[0])[-1] if get_origin(base) is Union else last


def find_key(path: Sequence[str | int], of: Key | None = None) -> Key | None:
    """The key at a path of words, places in lists among them; None if there is none.

    >>> find_key(["predictors", "x", "mean"]).path, find_key(["method", 0, "alhpa"])
    ('predictors.<name>.mean', None)
    """
    here: Key | None = of or STUDY
    for word in path:
        here = here and (here.below.get(str(word)) or here.below.get("<>"))
    return here


def _below(key: Key) -> Iterator[Key]:
    for each in key.below.values():
        yield each
        yield from _below(each)


STUDY = Key("", StudyTable, below=_keys_of(StudyTable, ""))
#: Axes by their short names.
AXES = {name: replace(each, path=name) for name, each in _keys_of(AxisTable, "").items()}
#: Every key by its path, in the order of the tables.
KEYS = {each.path: each for each in _below(STUDY)}
