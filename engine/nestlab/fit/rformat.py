"""Numbers and tables as R prints them.

R shows the elements of a vector with one number of decimals: the smallest with which every element has `digits` significant
digits, trailing zeros apart; and in scientific notation only where that is narrower (formatReal in R's format.c). Here the
digits come from exact decimal arithmetic. R computes them in long double: the two could differ only for a value within 1e-19
(relative) of a tie.

A missing value is None ("NA"); nan is "NaN". Tables are lists of lines for a terminal of 80 columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

__all__ = [
    "abbreviate",
    "cat_fill",
    "format_pvalues",
    "format_real",
    "matrix_lines",
    "named_lines",
    "round_to",
    "stars",
    "zapsmall",
]

Value = float | None

WIDTH = 80
_MOST_DECIMALS = 22  # R's KP_MAX
_EPSILON = 2.0**-52
_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."), (1.0, " "))
_WORDS = {None: "NA", math.inf: "Inf", -math.inf: "-Inf"}


class _Digits(NamedTuple):
    negative: bool
    power: int
    significant: int
    widens: bool


def format_real(values: Sequence[Value], digits: int = 7, nsmall: int = 0) -> list[str]:
    """R's `format(values, digits, nsmall)`: equally wide strings, numbers to the right.

    >>> format_real([5.6318, 1.13802, 2.868], digits=4)
    ['5.632', '1.138', '2.868']
    >>> format_real([1.0, 1e-12])
    ['1e+00', '1e-12']
    """
    finite = [v for v in values if v is not None and math.isfinite(v)]
    found = [_scientific(v, digits) for v in finite]
    decimals, kind, width = _notation(found, nsmall) if found else (0, "f", 0)
    texts = [_text(v, decimals, kind) for v in values]
    width = max(width, *map(len, texts), 0)
    return [text.rjust(width) for text in texts]


def _text(value: Value, decimals: int, kind: str) -> str:
    if value is None or math.isinf(value):
        return _WORDS[value]
    return "NaN" if math.isnan(value) else f"{value + 0.0:.{decimals}{kind}}"  # + 0.0: no -0


def _scientific(value: float, digits: int) -> _Digits:
    """Sign, power of ten and number of significant digits of a value rounded to `digits`.

    widens: rounding gives a digit more before the point than fixed notation would show (9996 to 3 digits is 1.00e+04), unless
    fixed notation rounds up as well (999.97 to 4 digits).
    """
    if value == 0.0:
        return _Digits(negative=False, power=0, significant=1, widens=False)
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    power = int(exponent)
    significant = len(mantissa.replace(".", "").rstrip("0"))
    rounded_up = 0.5 / 10.0 ** min(max(digits - power, 0), _MOST_DECIMALS)
    widens = 0 < power <= _MOST_DECIMALS and abs(value) < 10.0**power - rounded_up
    return _Digits(value < 0, power, significant, widens)


def _notation(found: Sequence[_Digits], nsmall: int) -> tuple[int, str, int]:
    """The common number of decimals, "f" or "e", and the width: R's can be one more than the texts need (999.974, 4 digits)."""
    left = max(d.negative + max(d.power + (not d.widens), 1) for d in found)
    right = min(max(0, *(d.significant - d.power - 1 for d in found)), _MOST_DECIMALS)
    fixed = left + right + (right > 0)
    mantissa = max(d.significant for d in found) - 1
    # a third digit of the exponent never decides: fixed notation is wider anyhow
    scientific = any(d.negative for d in found) + (mantissa > 0) + mantissa + 5
    if fixed > scientific:
        return mantissa, "e", scientific
    right = max(right, nsmall)
    return right, "f", left + right + (right > 0)


def round_to(value: float, digits: int) -> float:
    """R's `round(value, digits)` (4.0.0 and later): the nearer of the two candidates as doubles, the even one at a tie.

    >>> round_to(0.15, 1), round_to(2.5, 0), round_to(-1234.5678, 2)
    (0.1, 2.0, -1234.57)
    """
    if not math.isfinite(value) or value == 0.0 or digits + 15 < 0:
        return value
    size = abs(value)
    if digits > 15 - math.ceil(math.log10(size)):
        return value
    scale = 10.0 ** abs(digits)
    scaled = size * scale if digits >= 0 else size / scale
    low, high = math.floor(scaled), math.ceil(scaled)
    below, above = (low / scale, high / scale) if digits >= 0 else (low * scale, high * scale)
    down, up = size - below, above - size
    return math.copysign(below if down < up or (down == up and low % 2 == 0) else above, value)


def zapsmall(values: Sequence[float], digits: int) -> list[float]:
    """R's `zapsmall`: rounded at a place that depends on the largest, so that what is 0 beside it becomes 0."""
    largest = max((abs(v) for v in values), default=0.0)
    # round() takes the nearest whole number of digits
    places = max(0, math.floor(digits - math.log10(largest) + 0.5)) if largest > 0 else digits
    return [round_to(v, places) for v in values]


def format_pvalues(values: Sequence[float], digits: int) -> list[str]:
    """R's `format.pval`: small and large values apart, those under the machine's epsilon as "<2e-16".

    >>> format_pvalues([0.0412, 3.2e-7, 0.0], digits=3)
    ['0.0412', '3.2e-07', '< 2e-16']
    """
    texts: dict[int, str] = {}
    smallest = -4 if digits > 1 else -3
    for fixed in (True, False):
        chosen = [i for i, p in enumerate(values) if p >= _EPSILON and (math.floor(math.log10(p)) >= smallest) is fixed]
        texts |= zip(chosen, format_real([values[i] for i in chosen], digits), strict=True)
    widest = max(map(len, texts.values()), default=0)
    digits = max(1, digits - 2)
    if texts and digits > 1 and digits + 6 > widest:
        digits = max(1, widest - 7)
    separator = "" if digits == 1 and widest <= 6 else " "
    return [texts.get(i, f"<{separator}{format_real([_EPSILON], digits)[0]}") for i in range(len(values))]


def stars(values: Sequence[float]) -> list[str]:
    """R's significance stars of p values; "" where there is none.

    >>> stars([0.0002, 0.05, 0.5])
    ['***', '*', ' ']
    """
    return ["" if math.isnan(p) else next(star for limit, star in _STARS if p <= limit) for p in values]


def abbreviate(names: Sequence[str], minlength: int) -> list[str]:
    """R's `abbreviate`: letters dropped from the end, vowels first, until minlength; longer where names would coincide.

    >>> abbreviate(["(Intercept)", "treatment"], 6)
    ['(Intr)', 'trtmnt']
    """
    unique = list(dict.fromkeys(name.strip(" ") for name in names))
    short = dict(zip(unique, (_strip(name, minlength) for name in unique), strict=True))
    while len(set(short.values())) < len(unique):
        minlength += 1
        taken = list(short.values())
        for name in unique:
            if taken.count(short[name]) > 1:
                short[name] = _strip(name, minlength)
    return [short[name.strip(" ")] for name in names]


def _strip(name: str, minlength: int) -> str:
    letters = list(name)

    def first(i: int) -> bool:
        return letters[i - 1].isspace()

    def last(i: int) -> bool:
        return not first(i) and (i + 1 == len(letters) or letters[i + 1].isspace())

    def vowel(i: int) -> bool:
        return letters[i] in "aeiou"

    def lower(i: int) -> bool:
        return letters[i].islower()

    rules: list[Callable[[int], bool]] = [
        lambda i: vowel(i) and last(i),
        lambda i: vowel(i) and not first(i),
        lambda i: lower(i) and last(i),
        lambda i: lower(i) and not first(i),
        lambda i: not first(i) and not letters[i].isspace(),
    ]
    for rule in rules:
        for i in range(len(letters) - 1, 0, -1):
            if sum(not c.isspace() for c in letters) <= minlength:
                break
            if rule(i):
                del letters[i]
    if len(letters) <= minlength:
        return "".join(letters)
    return letters[0] + "".join(c for c in letters[1:] if not c.isspace())


def matrix_lines(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[str]], *, right: bool = False
) -> list[str]:
    """R's print of a character matrix without quotes, to the left or right; columns that do not fit follow below."""
    label = max(map(len, rows), default=0)
    widths = [max(len(name), *(len(row[j]) for row in cells)) for j, name in enumerate(columns)]

    def line(start: str, texts: Sequence[str], chosen: Iterable[int]) -> str:
        padded = (texts[j].rjust(widths[j]) if right else texts[j].ljust(widths[j]) for j in chosen)
        return " ".join([start.ljust(label), *padded])

    lines, start = [], 0
    while start < len(columns):
        stop, total = start + 1, label + widths[start] + 1
        while stop < len(columns) and total + widths[stop] + 1 < WIDTH:
            total += widths[stop] + 1
            stop += 1
        chosen = range(start, stop)
        lines += [line("", columns, chosen), *(line(name, row, chosen) for name, row in zip(rows, cells, strict=True))]
        start = stop
    return lines


def named_lines(names: Sequence[str], cells: Sequence[str]) -> list[str]:
    """R's print of a vector with names: names above values, to the right."""
    width = max(map(len, (*names, *cells)))
    line = max(1, WIDTH // (width + 1))
    lines = []
    for start in range(0, len(names), line):
        chosen = slice(start, start + line)
        lines += ["".join(f"{text.rjust(width)} " for text in texts[chosen]) for texts in (names, cells)]
    return lines


def cat_fill(pieces: Sequence[str], separator: str = " ") -> list[str]:
    """R's `cat(..., fill = TRUE)`: a new line before a piece that would pass the width."""
    lines, used = [""], 0
    for number, piece in enumerate(pieces):
        if used + len(piece) + len(separator) > WIDTH:
            lines.append("")
            used = 0
        lines[-1] += piece + (separator if number < len(pieces) - 1 else "")
        used += len(piece) + len(separator)
    return lines
