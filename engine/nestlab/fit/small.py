"""Small matrices in compiled code, one replicate at a time: storage by pairs, Cholesky factors, eigenvalues.

Arrays are copied element by element, because `A[:, :] = B` makes Numba compile its error messages, 3 s a kernel.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic as _intrinsic

__all__ = ["apart", "cholesky", "eigen", "eigen_large", "helper", "pair", "sym"]

intrinsic: Any = _intrinsic
#: Spacing of doubles at 1.
EPSILON = 2.0**-52
#: Called from compiled code only: without wrappers for Python a kernel compiles a fifth faster.
helper: Any = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]


@intrinsic
def apart(typing: Any) -> Any:
    """Keeps LLVM from inlining the function in which this stands and from unrolling its loops, which are short: the kernel
    compiles in 60 % of the time, and is 8 % faster."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for attribute in ("noinline", "optsize"):
            builder.function.attributes.add(attribute)
        return context.get_dummy_value()

    return signature(types.void), generate


@helper
def pair(i, k):
    """Index of the entry (i, k), i <= k, of a symmetric matrix stored by columns of its upper triangle."""
    return (k * (k + 1) >> 1) + i


@helper
def sym(i, k):
    """The same for any i and k."""
    return pair(i, k) if i <= k else pair(k, i)


@helper
def cholesky(n, M, tolerance):
    """Lower Cholesky factor in place (lower triangle); False if a pivot is not above tolerance x its diagonal."""
    apart()
    for j in range(n):
        pivot = M[j, j]
        diagonal = pivot
        for k in range(j):
            pivot -= M[j, k] * M[j, k]
        if not pivot > tolerance * diagonal:
            return False
        root = math.sqrt(pivot)
        M[j, j] = root
        for i in range(j + 1, n):
            value = M[i, j]
            for k in range(j):
                value -= M[i, k] * M[j, k]
            M[i, j] = value / root
    return True


@helper
def eigen(n, M, values, vectors):
    """Eigenvalues and vectors (columns) of symmetric M by cyclic Jacobi rotations; M is destroyed."""
    apart()
    for i in range(n):
        for k in range(n):
            vectors[i, k] = 1.0 if i == k else 0.0
    for _ in range(30):
        off = 0.0
        scale = 0.0
        for i in range(n):
            scale += M[i, i] * M[i, i]
            for k in range(i + 1, n):
                off += M[i, k] * M[i, k]
        if off <= 1e-34 * scale or off == 0.0:
            break
        for i in range(n - 1):
            for k in range(i + 1, n):
                if M[i, k] == 0.0:
                    continue
                h = (M[k, k] - M[i, i]) / (2.0 * M[i, k])
                t = 1.0 / (abs(h) + math.sqrt(1.0 + h * h))
                if h < 0.0:
                    t = -t
                cosine = 1.0 / math.sqrt(1.0 + t * t)
                sine = t * cosine
                for m in range(n):
                    left, right = M[m, i], M[m, k]
                    M[m, i] = cosine * left - sine * right
                    M[m, k] = sine * left + cosine * right
                for m in range(n):
                    left, right = M[i, m], M[k, m]
                    M[i, m] = cosine * left - sine * right
                    M[k, m] = sine * left + cosine * right
                for m in range(n):
                    left, right = vectors[m, i], vectors[m, k]
                    vectors[m, i] = cosine * left - sine * right
                    vectors[m, k] = sine * left + cosine * right
    for i in range(n):
        values[i] = M[i, i]


@helper
def eigen_large(n, values, vectors, off):
    """Eigenvalues and vectors (columns) of the symmetric matrix in `vectors`, by Householder's reflections and implicit QL steps:
    a quarter of the time of rotations for a matrix of order 20 (H. Bowdler, R. S. Martin, C. Reinsch, J. H. Wilkinson 1968,
    Numer. Math. 11:293-306). off: scratch (n)."""
    apart()
    _tridiagonal(n, values, vectors, off)
    for i in range(1, n):
        off[i - 1] = off[i]
    off[n - 1] = 0.0
    shift, size = 0.0, 0.0
    for k in range(n):
        size = max(size, abs(values[k]) + abs(off[k]))
        end = k
        while end < n - 1 and abs(off[end]) > EPSILON * size:
            end += 1
        tries = 0
        while end > k and tries < 50:
            tries += 1
            before = values[k]
            p = (values[k + 1] - before) / (2.0 * off[k])
            r = math.sqrt(p * p + 1.0)
            r = -r if p < 0.0 else r
            values[k] = off[k] / (p + r)
            values[k + 1] = off[k] * (p + r)
            second = values[k + 1]
            moved = before - values[k]
            for i in range(k + 2, n):
                values[i] -= moved
            shift += moved
            p, c, c2, c3, s, s2, first = values[end], 1.0, 1.0, 1.0, 0.0, 0.0, off[k + 1]
            for i in range(end - 1, k - 1, -1):
                c3, c2, s2 = c2, c, s
                g, h = c * off[i], c * p
                r = math.sqrt(p * p + off[i] * off[i])
                off[i + 1] = s * r
                s, c = off[i] / r, p / r
                p = c * values[i] - s * g
                values[i + 1] = h + s * (c * g + s * values[i])
                for m in range(n):
                    left, right = vectors[m, i], vectors[m, i + 1]
                    vectors[m, i + 1] = s * left + c * right
                    vectors[m, i] = c * left - s * right
            p = -s * s2 * c3 * first * off[k] / second
            off[k], values[k] = s * p, c * p
            if not abs(off[k]) > EPSILON * size:
                break
        values[k] += shift
        off[k] = 0.0


@helper
def _tridiagonal(n, d, V, e):
    """From symmetric V to its tridiagonal form: diagonal d, e[1:] beside it, and the product of reflections in V."""
    apart()
    for j in range(n):
        d[j] = V[n - 1, j]
    for i in range(n - 1, 0, -1):
        scale, h = 0.0, 0.0
        for k in range(i):
            scale += abs(d[k])
        if scale == 0.0:
            e[i] = d[i - 1]
            for j in range(i):
                d[j] = V[i - 1, j]
                V[i, j] = V[j, i] = 0.0
        else:
            for k in range(i):
                d[k] /= scale
                h += d[k] * d[k]
            f = d[i - 1]
            g = -math.sqrt(h) if f > 0.0 else math.sqrt(h)
            e[i] = scale * g
            h -= f * g
            d[i - 1] = f - g
            for j in range(i):
                e[j] = 0.0
            for j in range(i):
                f = d[j]
                V[j, i] = f
                g = e[j] + V[j, j] * f
                for k in range(j + 1, i):
                    g += V[k, j] * d[k]
                    e[k] += V[k, j] * f
                e[j] = g
            f = 0.0
            for j in range(i):
                e[j] /= h
                f += e[j] * d[j]
            half = f / (h + h)
            for j in range(i):
                e[j] -= half * d[j]
            for j in range(i):
                f, g = d[j], e[j]
                for k in range(j, i):
                    V[k, j] -= f * e[k] + g * d[k]
                d[j] = V[i - 1, j]
                V[i, j] = 0.0
        d[i] = h
    for i in range(n - 1):
        V[n - 1, i], V[i, i] = V[i, i], 1.0
        h = d[i + 1]
        if h != 0.0:
            for k in range(i + 1):
                d[k] = V[k, i + 1] / h
            for j in range(i + 1):
                g = 0.0
                for k in range(i + 1):
                    g += V[k, i + 1] * V[k, j]
                for k in range(i + 1):
                    V[k, j] -= g * d[k]
        for k in range(i + 1):
            V[k, i + 1] = 0.0
    for j in range(n):
        d[j], V[n - 1, j] = V[n - 1, j], 0.0
    V[n - 1, n - 1], e[0] = 1.0, 0.0
