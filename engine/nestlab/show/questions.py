"""What `nestlab new` asks: each question with its default, the check of its answer and the repair."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..spec.estimand import RESERVED
from ..spec.keys import AXES, KEYS, Key
from ..spec.predictors import DISTRIBUTIONS
from ..spec.problems import nearest

__all__ = ["QUESTIONS", "Prompt", "is_scaled", "unit_of"]

Answers = Mapping[str, Any]

_WORDS = ("outcome", "cluster", "predictor")
_LEVELS = {"1": 1, "within": 1, "w": 1, "2": 2, "between": 2, "b": 2}
_DISTRIBUTIONS = {"balanced": "balanced", "b": "balanced", "normal": "normal", "n": "normal"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question. key: the answer's name, also of its flag; text: as asked, given the answers so far; read: the value of an
    answer, or ValueError with what is allowed and the repair; asked: whether earlier answers leave it open."""

    key: str
    text: Callable[[Answers], str]
    default: Callable[[Answers], str]
    read: Callable[[str, Answers], Any]
    asked: Callable[[Answers], bool] = lambda given: True

    @property
    def flag(self) -> str:
        return f"--{self.key.replace('_', '-')}"


def is_scaled(distribution: str) -> bool:
    """Whether the predictor has a mean and an sd; the others are 0/1."""
    return "sd" in DISTRIBUTIONS[distribution].keys


def unit_of(distribution: str) -> str:
    """What the effect of a predictor is for."""
    return "by one sd of it" if is_scaled(distribution) else "1 against 0"


def _name(text: str, given: Answers) -> Any:
    return KEYS["name"].check(text)


def _word(own: str) -> Callable[[str, Answers], str]:
    """A name in a formula, other than those of the other two."""

    def read(text: str, given: Answers) -> str:
        if not re.fullmatch(r"[^\W\d_]\w*", text):
            clean = re.sub(r"\W+", "_", text).strip("_")
            example = clean if re.match(r"[^\W\d_]", clean) else f"v{clean}" if clean else "y"
            raise ValueError(f"must be one word of letters, digits and _, a letter first; write {example}, say")
        if text in RESERVED:
            raise ValueError(f"is a word of formulas and measures ({', '.join(RESERVED)}); write {text}_, say")
        for key in _WORDS:
            if key != own and given.get(key) == text:
                raise ValueError(f"must be another word than the {key}; write {text}2, say")
        return text

    return read


def _choice(words: Mapping[str, Any], allowed: str) -> Callable[[str, Answers], Any]:
    def read(text: str, given: Answers) -> Any:
        if text.lower() not in words:
            raise ValueError(f"must be {allowed}; {nearest(text.lower(), [w for w in words if len(w) > 1])}")
        return words[text.lower()]

    return read


def _number(key: Key) -> Callable[[str, Answers], Any]:
    def read(text: str, given: Answers) -> Any:
        try:
            return key.check(float(text))
        except ValueError as error:
            if re.fullmatch(r"[-+]?\d*,\d+", text):
                raise ValueError(f"must be {key.allowed}; write {text.replace(',', '.')}, with a point") from None
            if "could not convert" in str(error):
                raise ValueError(f"must be {key.allowed}; {key.usual}") from None
            raise

    return read


def _list(key: Key, what: str, example: str) -> Callable[[str, Answers], tuple[int, ...]]:
    """Whole numbers with commas or spaces between them, each once."""

    def numbers(text: str, given: Answers) -> tuple[int, ...]:
        words = [word for word in re.split(r"[,;\s]+", text.strip("[] ")) if word]
        read = [int(word) if re.fullmatch(r"[0-9]{1,15}", word) and key.accepts(int(word)) else None for word in words]
        found = [value for value in read if value is not None]
        if not found or len(found) < len(read):
            raise ValueError(f"must be {what}, or several with commas between them; write {example}, say")
        if double := next((n for n in found if found.count(n) > 1), None):
            raise ValueError(f"must be different numbers, and {double} is there twice; leave one out")
        return tuple(found)

    return numbers


def _level(text: str, given: Answers) -> Any:
    level = _choice(_LEVELS, "within (level 1) or between (level 2)")(text, given)
    if level == 2 and given.get("slope_variance"):
        raise ValueError(
            "must be within (level 1), for the effect to vary between clusters; or leave --slope-variance out"
        )
    return level


def _slope(text: str, given: Answers) -> Any:
    variance = _number(KEYS["truth.random.<group>.variance.<column>"])(text, given)
    if variance and given.get("level") == 2:
        raise ValueError(
            "must be 0 where the predictor varies between clusters only; leave it out, or give --level within"
        )
    return variance


def _within(given: Answers) -> bool:
    return bool(given["level"] == 1)


def _free(*wanted: str) -> Callable[[Answers], str]:
    """The first word that is no answer yet."""
    return lambda given: next(word for word in wanted if word not in given.values())


QUESTIONS = (
    Prompt("name", lambda g: "Name of the study, and of its results", lambda g: "study", _name),
    Prompt("outcome", lambda g: "Outcome: what is measured on every row", _free("y", "score"), _word("outcome")),
    Prompt(
        "cluster",
        lambda g: "Clusters: what the rows are nested in",
        _free("school", "cluster"),
        _word("cluster"),
    ),
    Prompt(
        "predictor", lambda g: "Predictor of interest, such as a treatment", _free("x", "z", "w"), _word("predictor")
    ),
    Prompt(
        "level",
        lambda g: f"Does {g['predictor']} vary within each {g['cluster']}, or only between?",
        lambda g: "within",
        _level,
    ),
    Prompt(
        "distribution",
        lambda g: f"Is {g['predictor']} 0/1, half and half (balanced), or continuous (normal)?",
        lambda g: "balanced" if g["level"] == 2 else "normal",
        _choice(_DISTRIBUTIONS, "balanced (0/1, half and half) or normal (continuous)"),
    ),
    Prompt(
        "effect",
        lambda g: f"Effect of {g['predictor']} ({unit_of(g['distribution'])}), in sds of {g['outcome']}",
        lambda g: "0.2" if is_scaled(g["distribution"]) else "0.3",
        _number(KEYS["truth.fixed.<term>"]),
    ),
    Prompt(
        "icc",
        lambda g: "Intraclass correlation (share of the variance between clusters)",
        lambda g: "0.1",
        _number(AXES["icc"]),
    ),
    Prompt(
        "slope_variance",
        lambda g: "Variance of that effect between clusters; 0: none",
        lambda g: "0.02",
        _slope,
        asked=_within,
    ),
    Prompt(
        "clusters",
        lambda g: f"Numbers of clusters ({g['cluster']}) to compare",
        lambda g: "10,20,40",
        _list(AXES["clusters"], "a whole number of 2 or more", "20,40"),
    ),
    Prompt(
        "cluster_size",
        lambda g: f"Rows in each {g['cluster']}, one or several numbers",
        lambda g: "25",
        _list(AXES["cluster_size"], "a whole number of 1 or more", "25"),
    ),
    Prompt(
        "question",
        lambda g: "What is asked: power, or bias (of REML and ML estimates)?",
        lambda g: "power",
        _choice({"power": "power", "p": "power", "bias": "bias", "b": "bias"}, "power or bias"),
    ),
)
