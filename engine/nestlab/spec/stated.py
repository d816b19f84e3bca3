"""Fixed effects in the units people think in, as a study file has them in place of a coefficient.

    x = { d = 0.3 }                                  # standard deviations of the response for a step of one unit of x
    x = { d = 0.3, by = "residual", per = "sd" }     # of the residual standard deviation; for a step of one sd of x
    x = { d = 0.3, by = "outcome" }                  # of the response's own standard deviation within arms of x
    x = { r2 = 0.1, sign = "-" }                     # share of the response's variance at its level that x explains

What they mean, and become, is in `effects`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .model import Effect
from .prior import looks_like_prior
from .problems import nearest, show

__all__ = ["looks_like_effect", "read_effect", "restated"]

_CHOICES = {"by": ("total", "residual", "outcome", "outcome-control"), "per": ("unit", "sd"), "sign": ("+", "-")}
_KEYS = {"d": ("d", "by", "per"), "r2": ("r2", "sign")}


def looks_like_effect(value: object) -> bool:
    """Whether a table in a coefficient's place means an effect in standard units rather than a prior.

    >>> looks_like_effect({"d": 0.3}), looks_like_effect({"distribution": "normal"}), looks_like_effect(0.3)
    (True, False, False)
    """
    if not isinstance(value, Mapping):
        return isinstance(value, Effect)
    return "distribution" not in value and (bool(set(_KEYS) & set(value)) or not looks_like_prior(value))


def read_effect(raw: object) -> Effect:
    """The effect that a table describes. ValueError with what is allowed and the repair.

    >>> read_effect({"d": 0.3, "by": "residual"}).text
    'd = 0.3 by residual variance'
    """
    if isinstance(raw, Effect):
        return raw
    assert isinstance(raw, Mapping)
    kinds = [kind for kind in _KEYS if kind in raw]
    if len(kinds) != 1:
        unknown = [str(key) for key in raw if key not in (*_KEYS["d"], *_KEYS["r2"])]
        repair = "keep one of the two" if kinds else nearest(unknown[0], _KEYS) if unknown else "add one of the two"
        raise ValueError(f"must be a number, a prior, or a table with one of d and r2, such as {{ d = 0.3 }}; {repair}")
    kind = kinds[0]
    for key in raw:
        if key not in _KEYS[kind]:
            known = ", ".join(_KEYS[kind])
            raise ValueError(f"must be an effect with the keys {known}, and {key} is none; {_repair(str(key), kind)}")
    words = {key: _choice(key, raw[key]) for key in _CHOICES if key in raw}
    number = _number(raw[kind], kind)
    if kind == "r2":
        return Effect("r2", number, negative=words.get("sign") == "-")
    return Effect("d", number, by=words.get("by", "total"), per=words.get("per", "unit"))


def _repair(key: str, kind: str) -> str:
    if kind == "d" and key == "sign":
        return "write d = -0.3, say"
    if kind == "r2" and key in ("by", "per"):
        return "remove it: r2 is a share of the variance at the term's level"
    return nearest(key, _KEYS[kind])


def _number(value: object, kind: str) -> float:
    if isinstance(value, Mapping):
        text = "no prior may stand for it: write a number, or a prior on the coefficient itself"
        raise ValueError(f"must be an effect whose {kind} is a number; {text}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(
            f"must be an effect whose {kind} is a finite number, and it is {show(value)}; write {kind} = 0.1, say"
        )
    if kind == "r2" and not 0 <= value < 1:
        repair = 'write sign = "-" for a negative effect' if value < 0 else "write a share such as 0.1"
        raise ValueError(f"must be an effect whose r2 is in [0, 1), 1 not included; {repair}")
    return float(value) + 0.0


def _choice(key: str, value: object) -> Any:
    words = _CHOICES[key]
    if value not in words:
        repair = nearest(value, words) if isinstance(value, str) else f'write {key} = "{words[0]}"'
        raise ValueError(
            f"must be an effect with {key} = {' or '.join(map(show, words))}, and it is {show(value)}; {repair}"
        )
    return value


def restated(given: object, unit: str, value: float) -> Effect:
    """What an axis of d or r2 makes of the number or the effect that the file gives: by, per and sign stay.

    >>> restated(Effect("d", 0.3, by="residual"), "d", 0.5).text, restated(0.0, "r2", 0.1).text
    ('d = 0.5 by residual variance', 'r2 = 0.1 of its level')
    """
    if isinstance(given, Effect) and given.kind == unit:
        return replace(given, value=value)
    return Effect("d", value) if unit == "d" else Effect("r2", value)
