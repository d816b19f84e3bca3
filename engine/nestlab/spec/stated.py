"""Fixed effects in the units people think in, as a study file has them in place of a coefficient.

    x = { d = 0.3 }                                  # standard deviations of the response for a step of one unit of x
    x = { d = 0.3, by = "residual", per = "sd" }     # of the residual standard deviation; for a step of one sd of x
    x = { d = 0.3, by = "outcome" }                  # of the response's own standard deviation within arms of x
    x = { r2 = 0.1, sign = "-" }                     # share of the response's variance at its level that x explains

and of binary and count outcomes

    x = { odds_ratio = 1.5 }                         # of a step of one unit (logit link)
    x = { rate_ratio = 1.3 }                         # of a step of one unit (log link)
    x = { difference = 0.1 }                         # what one unit adds to the baseline, a probability or a rate

What they mean, and become, is in `effects`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from .kinds import KeyTable, Number, Positive, Share, key, read_table
from .model import Effect, EffectKind
from .prior import looks_like_prior
from .problems import nearest

__all__ = ["UNITS", "EffectTable", "looks_like_effect", "read_effect", "restated"]


class EffectTable(KeyTable):
    """In place of a coefficient: an effect in standard units, d or r2."""

    d: Number | None = key("the effect in sds of the outcome, for a step of one unit", 0.3)
    r2: Share | None = key(
        "in place of d: the share of the outcome's variance at its level that the term explains", 0.1
    )
    by: Literal["total", "residual", "outcome", "outcome-control"] = key(
        "of d: whose sd; total: random intercept and residual, outcome: all within arms, outcome-control: in the first arm",
        "outcome", "total", axis=False,
    )  # fmt: skip
    per: Literal["unit", "sd"] = key("of d: for a step of one unit of the term, or of one sd", "sd", "unit", axis=False)
    sign: Literal["+", "-"] = key("of r2: of the coefficient", "-", "+", axis=False)
    odds_ratio: Positive | None = key("binary outcomes with the logit link: the odds ratio of a step of one unit", 1.5)
    rate_ratio: Positive | None = key("counts: the ratio of rates for a step of one unit", 1.3)
    difference: Number | None = key(
        "binary outcomes and counts: what one unit adds to the baseline probability or rate", 0.1
    )


#: Each unit of an effect with the keys that go with it.
_WITH = {
    "d": ("d", "by", "per"),
    "r2": ("r2", "sign"),
    "odds_ratio": ("odds_ratio",),
    "rate_ratio": ("rate_ratio",),
    "difference": ("difference",),
}
#: The units of effects.
UNITS = tuple(_WITH)


def looks_like_effect(value: object) -> bool:
    """Whether a table in a coefficient's place means an effect in standard units rather than a prior.

    >>> looks_like_effect({"d": 0.3}), looks_like_effect({"distribution": "normal"}), looks_like_effect(0.3)
    (True, False, False)
    """
    if not isinstance(value, Mapping):
        return isinstance(value, Effect)
    return "distribution" not in value and (bool(set(_WITH) & set(value)) or not looks_like_prior(value))


def read_effect(raw: object) -> Effect:
    """The effect that a table describes. ValueError with what is allowed and the repair.

    >>> read_effect({"d": 0.3, "by": "residual"}).text
    'd = 0.3 by residual variance'
    """
    if isinstance(raw, Effect):
        return raw
    assert isinstance(raw, Mapping)
    kinds: list[EffectKind] = [kind for kind in _WITH if kind in raw]  # type: ignore[misc]
    if len(kinds) != 1:
        unknown = [str(word) for word in raw if word not in EffectTable.model_fields]
        repair = "keep one of them" if kinds else nearest(unknown[0], _WITH) if unknown else "add one of them"
        raise ValueError(
            f"must be a number, a prior, or a table with one of {', '.join(UNITS)}, such as {{ d = 0.3 }}; {repair}"
        )
    kind = kinds[0]
    if isinstance(raw[kind], Mapping):
        text = "no prior may stand for it: write a number, or a prior on the coefficient itself"
        raise ValueError(f"must be an effect whose {kind} is a number; {text}")
    if kind == "r2" and isinstance(raw[kind], int | float) and raw[kind] < 0:
        raise ValueError('must be an effect whose r2 is 0 or more; write sign = "-" for a negative effect')
    for word in raw:
        if word in EffectTable.model_fields and word not in _WITH[kind]:
            repair = "remove it"
            if kind == "d":
                repair = "write d = -0.3, say" if word == "sign" else "keep one of the two"
            elif kind == "r2":
                repair = "remove it: r2 is a share of the variance at the term's level"
            raise ValueError(f"must be an effect with the keys {', '.join(_WITH[kind])}, and {word} is none; {repair}")
    table = read_table(EffectTable, raw, "an effect")
    if table.r2 is not None:
        return Effect("r2", table.r2, negative=table.sign == "-")
    if table.d is not None:
        return Effect("d", table.d, by=table.by, per=table.per)
    return Effect(kind, getattr(table, kind))


def restated(given: object, unit: EffectKind, value: float) -> Effect:
    """What an axis of a unit makes of the number or the effect that the file gives: by, per and sign stay.

    >>> restated(Effect("d", 0.3, by="residual"), "d", 0.5).text, restated(0.0, "r2", 0.1).text
    ('d = 0.5 by residual variance', 'r2 = 0.1 of its level')
    """
    if isinstance(given, Effect) and given.kind == unit:
        return replace(given, value=value)
    return Effect(unit, value)
