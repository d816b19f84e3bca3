"""What the tables of a study file are made of: keys, and the types of their values with what is said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    StringConstraints,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from .problems import close_match, meant, nearest, show
from .writing import toml_value

#: What a key is part of: which data are drawn, a method's results on them, or neither.
Part: TypeAlias = Literal["data", "results", "neither"]


def key(
    text: str, example: Any = None, default: Any = None, *, each: str = "", part: Part | None = None, axis: bool = True
) -> Any:
    """A key of a table, with a line for people and an example.

    each: of what a table holds one below each name, or a list one in each place; part: where it is not that of its table;
    axis: whether an axis of the grid may name it, where it is a part of the data.
    """
    about: Any = {"each": each, "part": part, "axis": axis}
    return Field(default=default, description=text, examples=[example], json_schema_extra=about)


class KeyTable(BaseModel):
    """A table that holds the keys named here and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    part: ClassVar[Part] = "data"


@dataclass(frozen=True, slots=True)
class Says:
    """What is said of a type: the values that it allows, and the repair where an example is not enough."""

    allowed: str
    repair: str = ""


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some words, which a table elsewhere has."""

    words: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(self.words))


@dataclass(frozen=True, slots=True)
class Holds:
    """A table that a value may be, where its type does not say so."""

    table: type[KeyTable]


@dataclass(frozen=True, slots=True)
class Limits:
    """The ends of a number's range, and whether they are left out."""

    low: float
    high: float
    open_low: bool
    open_high: bool


def limits_of(annotation: Any) -> Limits:
    """The limits that a type sets to a number."""
    _, notes = unwrapped(annotation)
    low: list[Any] = [note.ge if isinstance(note, Ge) else note.gt for note in notes if isinstance(note, Ge | Gt)]
    high: list[Any] = [note.le if isinstance(note, Le) else note.lt for note in notes if isinstance(note, Le | Lt)]
    return Limits(
        float(low[-1]) if low else -math.inf,
        float(high[-1]) if high else math.inf,
        any(isinstance(note, Gt) for note in notes),
        any(isinstance(note, Lt) for note in notes),
    )


def unwrapped(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type within `X | None` and `Annotated`, and the notes on it."""
    notes: tuple[Any, ...] = ()
    while True:
        if hasattr(annotation, "__metadata__"):
            annotation, notes = annotation.__origin__, (*annotation.__metadata__, *notes)
        elif type(None) in (inside := get_args(annotation)) and len(inside) == 2:
            annotation = next(each for each in inside if each is not type(None))
        else:
            return annotation, notes


def words_of(annotation: Any) -> tuple[Any, ...]:
    """The words of which a value is one; () where it is none of some words."""
    base, notes = unwrapped(annotation)
    if get_origin(base) is tuple:
        return words_of(get_args(base)[0])
    table = next((note.words for note in notes if isinstance(note, OneOf)), ())
    return get_args(base) if get_origin(base) is Literal else table


def allowed(annotation: Any) -> str:
    """The values of a type in words.

    >>> allowed(Share | None), allowed(Clusters), allowed(Correlation)
    ('a number from 0 to 1, 1 not included', 'a whole number from 2 to 1000000', 'a number from -1 to 1')
    """
    base, notes = unwrapped(annotation)
    for note in reversed(notes):
        if isinstance(note, Says):
            return note.allowed
        if number := getattr(note, "number", None):  # for which a prior may stand
            return allowed(number)
    if words := words_of(annotation):
        return either(words)
    if get_origin(base) is dict or issubclass(base, BaseModel):
        return TABLE
    if base is bool:
        return "true or false"
    if base is str:
        return "text"
    assert base in (int, float), annotation
    return _range(limits_of(annotation), "a whole number" if base is int else "a number")


#: What is said of a value that must be a table.
TABLE = "a table"


def _range(limits: Limits, what: str) -> str:
    low, high = f"{limits.low:.10g}", f"{limits.high:.10g}"
    finite = "a finite number" if what == "a number" else what
    if math.isinf(limits.low) and math.isinf(limits.high):
        return finite
    if math.isinf(limits.high):
        return f"{finite} {'>' if limits.open_low else '>='} {low}"
    if limits.open_low and limits.open_high:
        return f"{what} between {low} and {high}, neither included"
    return f"{what} from {low} to {high}" + (f", {high} not included" if limits.open_high else "")


def either(words: Sequence[str]) -> str:
    """Words of a file as people list them: '"a", "b" or "c"'."""
    quoted = [f'"{word}"' for word in words]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(words) > 1 else quoted[0]


#: Types that tables of several modules have.
Flag: TypeAlias = Annotated[bool, Strict()]
Text: TypeAlias = Annotated[str, Strict()]
Nonblank: TypeAlias = Annotated[str, StringConstraints(strict=True, pattern=r"\S")]
Whole: TypeAlias = Annotated[int, Strict()]
Number: TypeAlias = Annotated[float, Strict(), AllowInfNan(False)]

Positive: TypeAlias = Annotated[Number, Gt(0)]
NonNegative: TypeAlias = Annotated[Number, Ge(0)]
Share: TypeAlias = Annotated[Number, Ge(0), Lt(1)]


Table = TypeVar("Table", bound=KeyTable)


def read_table(model: type[Table], raw: Mapping[str, Any], what: str) -> Table:
    """A table that stands in a value's place. ValueError says what is wrong with it first, and the repair.

    what: it is, "an effect".
    """
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    name = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        known = list(model.model_fields)
        text = f"must be {what} with the keys {', '.join(known)}, and {name} is none; {nearest(name, known)}"
        raise ValueError(text) from None
    field = model.model_fields[name]
    annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    if fault["type"] == "missing":
        raise ValueError(f"must be {what} with {name} = {allowed(annotation)}; add it")
    words, value = words_of(annotation), fault["input"]
    guess = close_match(value, words) if isinstance(value, str) and words else None
    repair = meant(guess, value) if guess else f"write {name} = {toml_value((field.examples or [None])[0])}, say"
    raise ValueError(f"must be {what} whose {name} is {allowed(annotation)}, and it is {show(value)}; {repair}")
