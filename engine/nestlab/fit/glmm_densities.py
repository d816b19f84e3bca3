"""Log densities of rows given the linear predictor eta, with derivatives up to the fourth, for compiled code.

For each kind log f(y | eta) without terms in y alone, and l1 = (log f)', w = -(log f)'', w1 = w', w2 = w'', elementwise:

    LOGIT    y eta - n log(1 + e^eta)                       n trials
    PROBIT   y log Phi(eta) + (n - y) log Phi(-eta)
    CLOGLOG  y log(1 - exp(-mu)) - (n - y) mu,              mu = e^eta
    LOG      y eta - mu                                     Poisson, mu = e^eta
    NEGATIVE y eta - (y + k) log(k + mu)                    negative binomial with dispersion k, mu = e^eta

Weights are observed ones, not expected. The exponential is a polynomial in loops without branches, which vectorise: within 1 ulp
of the C library's on [-700, 700].
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from ..spec.family import KINDS
from .small import helper

__all__ = ["CLOGLOG", "LOG", "LOGIT", "NEGATIVE", "PROBIT", "exponentials", "log_density"]

LOGIT, PROBIT, CLOGLOG, LOG, NEGATIVE = KINDS.values()

_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_SHIFT = 6755399441055744.0
_ROOT2, _ROOT2PI = math.sqrt(2.0), math.sqrt(2.0 * math.pi)

# "reassoc" would cancel the shift of `exponentials`
plain_loop: Any = njit(  # type: ignore[call-overload]
    error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath={"contract"}
)
row_loop: Any = njit(  # type: ignore[call-overload]
    error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath={"contract", "reassoc"}
)


@plain_loop
def exponentials(x, out, bits, m):
    """out = e^x of m entries. bits: scratch (m) as int64, and the same memory as doubles.

    Adding 1.5 * 2^52 rounds to a whole number, which then stands in the lowest bits of the sum.
    """
    whole, power = bits
    for r in range(m):
        t = x[r]
        t = -700.0 if t < -700.0 else t
        t = 700.0 if t > 700.0 else t
        shifted = t * _LOG2E + _SHIFT
        power[r] = shifted
        k = shifted - _SHIFT
        s = (t - k * _LN2_HIGH) - k * _LN2_LOW
        p = 1.0 / 479001600.0
        p = p * s + 1.0 / 39916800.0
        p = p * s + 1.0 / 3628800.0
        p = p * s + 1.0 / 362880.0
        p = p * s + 1.0 / 40320.0
        p = p * s + 1.0 / 5040.0
        p = p * s + 1.0 / 720.0
        p = p * s + 1.0 / 120.0
        p = p * s + 1.0 / 24.0
        p = p * s + 1.0 / 6.0
        p = p * s + 0.5
        p = p * s + 1.0
        out[r] = p * s + 1.0
    for r in range(m):
        whole[r] = (whole[r] + 1023) << 52
    for r in range(m):
        out[r] *= power[r]


@row_loop
def segment_sums(x, starts, J, out):
    """out[j]: the sum of x over segment j."""
    if starts[J] == J:
        for j in range(J):
            out[j] = x[j]
        return
    for j in range(J):
        total = 0.0
        for r in range(starts[j], starts[j + 1]):
            total += x[r]
        out[j] = total


@row_loop
def _logistic(y, n, m, eta, l1, w, e, bits):
    for r in range(m):
        l1[r] = -abs(eta[r])
    exponentials(l1, e, bits, m)
    for r in range(m):
        high = 1.0 / (1.0 + e[r])
        low = e[r] * high
        p = high if eta[r] >= 0.0 else low
        l1[r] = y[r] - n[r] * p
        w[r] = n[r] * high * low


@row_loop
def _logistic_more(m, eta, w, w1, w2, e):
    for r in range(m):
        high = 1.0 / (1.0 + e[r])
        gap = (1.0 - e[r]) * high
        w1[r] = w[r] * (-gap if eta[r] >= 0.0 else gap)
        w2[r] = w[r] * (1.0 - 6.0 * e[r] * high * high)


@row_loop
def _logistic_sums(y, n, starts, J, eta, e, out, sums):
    """log(1 + e) = 2 atanh(s), s = e / (2 + e) <= 1/3, by its series."""
    m = starts[J]
    for r in range(m):
        s = e[r] / (2.0 + e[r])
        t = s * s
        x = 1.0 / 31.0
        x = x * t + 1.0 / 29.0
        x = x * t + 1.0 / 27.0
        x = x * t + 1.0 / 25.0
        x = x * t + 1.0 / 23.0
        x = x * t + 1.0 / 21.0
        x = x * t + 1.0 / 19.0
        x = x * t + 1.0 / 17.0
        x = x * t + 1.0 / 15.0
        x = x * t + 1.0 / 13.0
        x = x * t + 1.0 / 11.0
        x = x * t + 1.0 / 9.0
        x = x * t + 1.0 / 7.0
        x = x * t + 1.0 / 5.0
        x = x * t + 1.0 / 3.0
        x = x * t + 1.0
        out[r] = 2.0 * s * x
    for r in range(m):
        up = eta[r] if eta[r] > 0.0 else 0.0
        out[r] = y[r] * eta[r] - n[r] * (up + out[r])
    segment_sums(out, starts, J, sums)


@row_loop
def _log(y, starts, J, eta, l1, w, w1, w2, e, bits, sums, whole):
    m = starts[J]
    exponentials(eta, e, bits, m)
    for r in range(m):
        l1[r] = y[r] - e[r]
        w[r] = e[r]
    if whole:
        for r in range(m):
            w1[r] = y[r] * eta[r] - e[r]
        segment_sums(w1, starts, J, sums)
        for r in range(m):
            w1[r] = e[r]
            w2[r] = e[r]


@row_loop
def _negative(y, starts, J, eta, dispersion, l1, w, w1, w2, e, bits, sums):
    exponentials(eta, e, bits, starts[J])
    for j in range(J):
        total = 0.0
        for r in range(starts[j], starts[j + 1]):
            mu, size = e[r], y[r] + dispersion
            p = mu / (dispersion + mu)
            q = dispersion / (dispersion + mu)
            total += y[r] * eta[r] - size * math.log(dispersion + mu)
            l1[r] = y[r] - size * p
            w[r] = size * p * q
            w1[r] = w[r] * (q - p)
            w2[r] = w[r] * (1.0 - 6.0 * p * q)
        sums[j] = total


@row_loop
def _log_phi(x):
    """log Phi(x) and its first four derivatives."""
    if x > -37.0:
        phi = 0.5 * math.erfc(-x / _ROOT2)
        value = math.log(phi) if x < 5.0 else math.log1p(-0.5 * math.erfc(x / _ROOT2))
        ratio = math.exp(-0.5 * x * x) / (_ROOT2PI * phi)
        gap = x + ratio
    else:
        # Mills' ratio by its asymptotic series: ratio = -x + gap, gap = -1/x + 2/x^3 - 10/x^5
        i = 1.0 / x
        gap = -i + 2.0 * i**3 - 10.0 * i**5
        ratio = gap - x
        value = -0.5 * x * x - math.log(ratio * _ROOT2PI)
    d2 = -ratio * gap
    d3 = -d2 * gap - ratio * (1.0 + d2)
    d4 = -d3 * gap - 2.0 * d2 * (1.0 + d2) - ratio * d3
    return value, ratio, d2, d3, d4


@row_loop
def _probit(y, n, starts, J, eta, l1, w, w1, w2, sums):
    for j in range(J):
        total = 0.0
        for r in range(starts[j], starts[j + 1]):
            yes, no = y[r], n[r] - y[r]
            a, b, c, d = 0.0, 0.0, 0.0, 0.0
            if yes > 0.0:
                value, d1, d2, d3, d4 = _log_phi(eta[r])
                total += yes * value
                a, b, c, d = yes * d1, yes * d2, yes * d3, yes * d4
            if no > 0.0:
                value, d1, d2, d3, d4 = _log_phi(-eta[r])
                total += no * value
                a -= no * d1
                b += no * d2
                c -= no * d3
                d += no * d4
            l1[r], w[r], w1[r], w2[r] = a, -b, -c, -d
        sums[j] = total


@row_loop
def _cloglog(y, n, starts, J, eta, l1, w, w1, w2, sums):
    for j in range(J):
        total = 0.0
        for r in range(starts[j], starts[j + 1]):
            yes, no = y[r], n[r] - y[r]
            mu = math.exp(min(eta[r], 700.0))
            a, b, c, d = -no * mu, -no * mu, -no * mu, -no * mu
            total -= no * mu
            if yes > 0.0:
                total += yes * math.log(-math.expm1(-mu))
                d1 = mu / math.expm1(mu) if mu < 700.0 else 0.0
                # 1 - mu - d1 loses its digits for small mu
                gap = -0.5 * mu * (1.0 + mu / 6.0) if mu < 1e-4 else 1.0 - mu - d1
                d2 = d1 * gap
                d3 = d2 * gap - d1 * (mu + d2)
                d4 = d3 * gap - 2.0 * d2 * (mu + d2) - d1 * (mu + d3)
                a += yes * d1
                b += yes * d2
                c += yes * d3
                d += yes * d4
            l1[r], w[r], w1[r], w2[r] = a, -b, -c, -d
        sums[j] = total


@helper
def log_density(kind, dispersion, y, n, starts, J, eta, l1, w, w1, w2, e, bits, sums, whole):
    """Fill l1 and w of the rows of J segments; if `whole`, also w1 and w2 and, in sums (J), the segments' log densities.

    Rows starts[j] .. starts[j + 1] - 1 are segment j, and starts[0] = 0. e and bits: scratch.
    """
    if kind == LOGIT:
        _logistic(y, n, starts[J], eta, l1, w, e, bits)
        if whole:
            _logistic_sums(y, n, starts, J, eta, e, w1, sums)
            _logistic_more(starts[J], eta, w, w1, w2, e)
    elif kind == LOG:
        _log(y, starts, J, eta, l1, w, w1, w2, e, bits, sums, whole)
    elif kind == NEGATIVE:
        _negative(y, starts, J, eta, dispersion, l1, w, w1, w2, e, bits, sums)
    elif kind == PROBIT:
        _probit(y, n, starts, J, eta, l1, w, w1, w2, sums)
    else:
        _cloglog(y, n, starts, J, eta, l1, w, w1, w2, sums)
