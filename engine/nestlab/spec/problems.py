"""What is wrong with a study, a line each: key, value received, what is allowed, the repair."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

__all__ = [
    "DataError",
    "Items",
    "Made",
    "Problem",
    "Problems",
    "StudyError",
    "close_match",
    "close_path",
    "meant",
    "nearest",
    "show",
]

T = TypeVar("T")
#: Keys and values of a study that can be a key of a cache.
Items: TypeAlias = tuple[tuple[str, Any], ...]

_LONGEST = 80
#: Our words for what others call otherwise (letters and digits only).
_OURS = {
    **dict.fromkeys(("bernoulli", "binomial", "dichotomous"), "binary"), "gaussian": "normal", "coverage": "cover",
    **dict.fromkeys(("type1", "typei", "type1error", "typeierror", "rejection", "rejections"), "power"),
}  # fmt: skip
_LONGEST_KEY = 200


class StudyError(ValueError):
    """A study that cannot be used.

    problems: a line each, with the key, the value received, what is allowed and the repair; str() joins them.

    >>> raise StudyError("replications = 0: must be a whole number, 1 or more; write one")
    Traceback (most recent call last):
    nestlab.spec.problems.StudyError: replications = 0: must be a whole number, 1 or more; write one
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class DataError(ValueError):
    """Data that cannot be read, or that a formula cannot be fitted to; the message names what, what was found and the repair.

    >>> raise DataError("formula names x, which the data do not have; columns: y, school")
    Traceback (most recent call last):
    nestlab.spec.problems.DataError: formula names x, which the data do not have; columns: y, school
    """


class Problem(NamedTuple):
    """`key` is the dotted path at fault, `line` the whole sentence."""

    key: str
    line: str


class Made(NamedTuple, Generic[T]):
    """What flat values say of one thing, None if it cannot be used or there is none of it; and what is wrong with it."""

    value: T | None
    problems: tuple[Problem, ...] = ()


class Problems:
    """Collects problems, each once, in the order found."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def add(self, key: str, text: str) -> None:
        """A problem without a value: `key text`."""
        self._found[Problem(key, f"{_printable(key)} {text}")] = None

    def add_value(self, key: str, value: object, text: str) -> None:
        """A problem of a value: `key = value: text`, where text says what is allowed and the repair."""
        self._found[Problem(key, f"{_printable(key)} = {show(value)}: {text}")] = None

    def add_number(self, key: str, value: object, text: str) -> None:
        """As `add_value`, for numbers that have been read as floats: 1.0 is shown as 1."""
        self.add_value(key, _short(value), text)

    def extend(self, others: Iterable[Problem]) -> None:
        self._found.update(dict.fromkeys(others))

    def raise_if_any(self) -> None:
        if self._found:
            raise StudyError(problem.line for problem in self._found)


def show(value: object) -> str:
    """A value as in a study file, on one line, cut when it is long.

    >>> show(True), show("a"), show([1, 2.5]), show(float("nan"))
    ('true', '"a"', '[1, 2.5]', 'nan')
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}.get(text, text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def close_match(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` may be a misspelling of, or our word for it.

    >>> close_match("Icc", ["icc"]), close_match("coverage", ["converged", "cover"]), close_match("q", ["icc"])
    ('icc', 'cover', None)
    """
    return _close_match(word, tuple(known))


@lru_cache(maxsize=8192)
def _close_match(word: str, words: tuple[str, ...]) -> str | None:
    same = [candidate for candidate in words if candidate.lower() == word.lower()]
    ours = [candidate for candidate in words if candidate == _our_word(word)]
    return next(iter(same or ours or difflib.get_close_matches(word, words, n=1, cutoff=0.6)), None)


def close_path(path: str, known: Iterable[str]) -> str | None:
    """The known dotted path that `path` may be a misspelling of: every part is near.

    >>> close_path("truth.fixd.x", ["truth.fixed.x"]), close_path("truth.fixed.w", ["truth.fixed.x"])
    ('truth.fixed.x', None)
    """
    parts = path.split(".")
    near = [
        candidate
        for candidate in known
        if candidate.count(".") == len(parts) - 1
        and all(a == b or close_match(a, [b]) for a, b in zip(parts, candidate.split("."), strict=True))
    ]
    return next(iter(difflib.get_close_matches(path, near, n=1, cutoff=0.0)), None)


def nearest(word: str, known: Iterable[str]) -> str:
    """The repair of an unknown word: the nearest known one, or all of them.

    >>> nearest("clutsers", ["clusters", "icc"])
    'did you mean "clusters"?'
    >>> nearest("q", ["clusters", "icc"])
    'use one of clusters, icc'
    """
    words = list(known)
    if guess := close_match(word, words):
        return meant(guess, word)
    return f"use one of {', '.join(words)}" if words else "remove it"


def meant(guess: str, word: str) -> str:
    """The repair of a word for which a known one was guessed.

    >>> meant("icc", "ICC"), meant("power", "type I")
    ('did you mean "icc"?', 'did you mean "power"? It is the type I error rate where the true effect is 0')
    """
    about = " It is the type I error rate where the true effect is 0" if guess == _our_word(word) == "power" else ""
    return f'did you mean "{guess}"?{about}'


def _our_word(word: str) -> str | None:
    return _OURS.get("".join(filter(str.isalnum, word.lower())))


def _short(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return value


def _printable(key: str) -> str:
    key = key if len(key) <= _LONGEST_KEY else f"{key[: _LONGEST_KEY - 4]} ..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in key)
