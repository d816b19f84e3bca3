"""Small matrices in compiled code, one replicate at a time: storage by pairs, Cholesky factors, eigenvalues.

Arrays are copied element by element, because `A[:, :] = B` makes Numba compile its error messages, 3 s a kernel.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic as _intrinsic

__all__ = ["apart", "cholesky", "eigen", "helper", "pair", "sym"]

intrinsic: Any = _intrinsic
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
