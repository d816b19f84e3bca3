"""R's random numbers: `set.seed`, `runif`, `rnorm` and MASS's `mvrnorm`, so that an R script's data can be drawn again.

These are R's default kinds since 1.7: the Mersenne Twister MT19937 for uniforms, inversion for normals. Nothing else in
nestlab draws from here; studies take their streams from `streams.py`.

- Seeding. The seed s is scrambled 50 times by s <- 69069 s + 1 (mod 2^32); the next 625 values of that recurrence are
  R's state, of which the first, the position, is overwritten by 624 ("make new words at the next call").
- Uniforms. u = w / 2^32 with w the twister's tempered 32-bit word; w = 0 gives half of 1 / (2^32 - 1): 0 < u < 1.
- Normals. A word has too few bits for the tails, so two uniforms make one, u = (floor(2^27 u1) + u2) / 2^27, and
  z = Phi^-1(u) by Wichura's algorithm AS 241 (PPND16).

References: M. Matsumoto and T. Nishimura (1998), Mersenne Twister, ACM TOMACS 8, 3-30. M. J. Wichura (1988), Algorithm
AS 241: the percentage points of the normal distribution, Applied Statistics 37, 477-484. R's help pages `?RNGkind` and
`?qnorm`. B. D. Ripley (1987), Stochastic Simulation, p. 98, and W. N. Venables and B. D. Ripley (2002), Modern Applied
Statistics with S (`mvrnorm`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh_tridiagonal

__all__ = ["RRandom", "qnorm"]

Array = npt.NDArray[np.float64]

_WORDS = 624
_BIG = 134217728.0  # 2^27
_OF_ZERO = 1.1641532185403984e-10  # as R prints it with 17 digits; 0.5 / (2^32 - 1) is the next double
_LARGEST_SEED = 2**31 - 1

# AS 241, PPND16: numerator and denominator, highest power first, for the centre, the near and the far tail.
_CENTRE = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
_NEAR = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
_FAR = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)


def _horner(coefficients: tuple[float, ...], r: Array) -> Array:
    value = np.full_like(r, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * r + coefficient
    return value


def _ratio(pair: tuple[tuple[float, ...], tuple[float, ...]], r: Array) -> Array:
    numerator, denominator = pair
    return _horner(numerator, r) / _horner(denominator, r)


def qnorm(p: npt.ArrayLike) -> Array:
    """The standard normal quantile function by AS 241, in R's order of operations: R's `qnorm(p)` to the bit.

    p: probabilities in (0, 1), any shape. Returns an array of that shape. Raises ValueError outside (0, 1).
    `scipy.special.ndtri` is another approximation: as accurate, other last digits.

    >>> round(float(qnorm(0.975)), 12)
    1.95996398454
    """
    p = np.asarray(p, dtype=np.float64)
    inside = (p > 0) & (p < 1)
    if not inside.all():
        raise ValueError(f"qnorm: p must lie strictly between 0 and 1, got {p[~inside].flat[0]}; remove or clip it")
    q = p - 0.5
    value = np.empty_like(q)
    centre = np.abs(q) <= 0.425
    qc = q[centre]
    rc = 0.180625 - qc * qc
    # (q num) / den, not q (num / den): AS 241's order, and three normals in ten differ in the last bits otherwise.
    value[centre] = qc * _horner(_CENTRE[0], rc) / _horner(_CENTRE[1], rc)
    tail = ~centre
    smaller = np.minimum(p[tail], 1.0 - p[tail])
    # The C library's log, as R uses it: NumPy's vectorised log may differ from it in the last bit.
    r = np.sqrt(-np.fromiter(map(math.log, smaller.tolist()), np.float64, smaller.size))
    magnitude = np.where(r <= 5.0, _ratio(_NEAR, r - 1.6), _ratio(_FAR, r - 5.0))
    value[tail] = np.copysign(magnitude, q[tail])
    return value


def _initial_state(seed: int) -> npt.NDArray[np.uint32]:
    """The 624 words of state that R's `set.seed` leaves."""
    word = seed % 2**32
    for _ in range(51):  # the 51st value is the position, which R overwrites
        word = (69069 * word + 1) % 2**32
    state = np.empty(_WORDS, dtype=np.uint32)
    for i in range(_WORDS):
        word = (69069 * word + 1) % 2**32
        state[i] = word
    return state


def _dot(a: list[float], b: list[float]) -> float:
    total = 0.0
    for x, y in zip(a, b, strict=True):
        total += x * y
    return total


def _householder(column: list[float]) -> tuple[float, float, list[float]]:
    """beta, tau and v (v[0] = 1) with (I - tau v v') column = (beta, 0, ..., 0), as LAPACK's dlarfg."""
    alpha, rest = column[0], column[1:]
    norm = math.sqrt(_dot(rest, rest))
    if norm == 0.0:
        return alpha, 0.0, [1.0, *rest]
    large, small = max(abs(alpha), norm), min(abs(alpha), norm)
    beta = -math.copysign(large * math.sqrt(1.0 + (small / large) ** 2), alpha)
    scale = 1.0 / (alpha - beta)
    return beta, (beta - alpha) / beta, [1.0, *(scale * x for x in rest)]


def _symmetric_times(B: list[list[float]], scale: float, v: list[float]) -> list[float]:
    """scale B v from the lower triangle of B, in the order of the reference dsymv."""
    m = len(v)
    y = [0.0] * m
    for j in range(m):
        forward = scale * v[j]
        y[j] += forward * B[j][j]
        back = 0.0
        for k in range(j + 1, m):
            y[k] += forward * B[k][j]
            back += B[k][j] * v[k]
        y[j] += scale * back
    return y


def _eigen(S: Array) -> tuple[Array, Array]:
    """Eigenvalues of symmetric S in descending order, and its eigenvectors (columns) with the signs of R's `eigen`.

    R calls LAPACK's dsyevr: Householder reduction to tridiagonal form, MRRR (dstemr), the reflections back. MRRR makes
    positive that component of a tridiagonal eigenvector at which a factorisation comes nearest to singular, and
    rounding errors can decide which one that is. `scipy.linalg.eigh(driver="evr")` runs on another BLAS than R's
    reference one, and its tridiagonal form differs in the last bits: of 1,000 random 3 x 3 matrices 79 had a vector of
    the other sign, of 10 x 10 ones 759. So the reduction and the way back are done here in the reference BLAS's order
    of operations, and dstemr alone is SciPy's: of 8,996 matrices of order 2 to 10, 1 had another sign and 4 another bit
    than R's. Above order 32 LAPACK works in blocks, and signs may differ.

    E. Anderson et al. (1999), LAPACK Users' Guide. I. S. Dhillon and B. N. Parlett (2004), Multiple representations to
    compute orthogonal eigenvectors of symmetric tridiagonal matrices, Linear Algebra and its Applications 387, 1-28.
    """
    p = len(S)
    if p == 1:
        return S[0].copy(), np.ones((1, 1))
    A: list[list[float]] = S.tolist()
    reflections: list[tuple[float, list[float]]] = []
    off = []
    for i in range(p - 1):
        beta, tau, v = _householder([A[k][i] for k in range(i + 1, p)])
        off.append(beta)
        reflections.append((tau, v))
        if tau != 0.0:
            w = _symmetric_times([row[i + 1 :] for row in A[i + 1 :]], tau, v)
            shift = -0.5 * tau * _dot(w, v)
            w = [a + shift * b for a, b in zip(w, v, strict=True)]
            for j in range(len(v)):
                for k in range(j, len(v)):
                    A[i + 1 + k][i + 1 + j] = A[i + 1 + k][i + 1 + j] - v[k] * w[j] - w[k] * v[j]
    values, Z = eigh_tridiagonal([A[i][i] for i in range(p)], off, lapack_driver="stemr")
    for i in reversed(range(p - 1)):
        tau, v = reflections[i]
        below = Z[i + 1 :]
        projected = np.zeros(p)
        for k, component in enumerate(v):
            projected += below[k] * component
        for k, component in enumerate(v):
            below[k] -= component * (tau * projected)
    return values[::-1], Z[:, ::-1]


class RRandom:
    """R's generator after `set.seed(seed)`, with R's default kinds: Mersenne-Twister, Inversion.

    seed: an integer from -2147483647 to 2147483647, as in R. Every draw continues where the one before left the stream.

    >>> RRandom(42).rnorm(2).round(7).tolist()
    [1.3709584, -0.5646982]
    """

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or abs(int(seed)) > _LARGEST_SEED:
            raise ValueError(
                f"RRandom: seed must be an integer from -{_LARGEST_SEED} to {_LARGEST_SEED}, as R's set.seed takes, "
                f"got {seed!r}; give the number that the R script gives to set.seed"
            )
        self._twister = np.random.MT19937(0)
        self._twister.state = {
            "bit_generator": "MT19937",
            "state": {"key": _initial_state(int(seed)), "pos": _WORDS},
        }

    def runif(self, n: int) -> Array:
        """n uniform draws on (0, 1), as R's `runif(n)`."""
        u: Array = self._twister.random_raw(_count(n)).astype(np.float64) * 2.0**-32
        u[u == 0.0] = _OF_ZERO
        return u

    def rnorm(self, n: int, mean: float = 0.0, sd: float = 1.0) -> Array:
        """n normal draws, as R's `rnorm(n, mean, sd)`; sd >= 0. As in R, sd = 0 takes nothing from the stream."""
        if not (math.isfinite(mean) and math.isfinite(sd) and sd >= 0):
            raise ValueError(
                f"rnorm: mean must be finite, sd finite and >= 0, got mean={mean!r}, sd={sd!r}; correct that one"
            )
        if sd == 0:
            return np.full(_count(n), float(mean))
        u = self.runif(2 * _count(n))
        return mean + sd * qnorm((np.floor(_BIG * u[0::2]) + u[1::2]) / _BIG)

    def mvrnorm(self, n: int, mu: npt.ArrayLike, Sigma: npt.ArrayLike) -> Array:
        """n draws from N(mu, Sigma), as MASS's `mvrnorm(n, mu, Sigma)`: an n x p array (R drops to a vector at n = 1).

        mu: p means. Sigma: p x p, symmetric, positive semi-definite (MASS's rule: the smallest eigenvalue is at least
        -1e-6 times the largest). With Sigma = V diag(ev) V', ev descending, and x p standard normals, a draw is
        mu + V diag(sqrt(ev)) x; the n x p normals are taken column by column. The sign of each column of V matters and
        is that of R's `eigen` with its own LAPACK; where eigenvalues coincide, rounding errors choose V, in R as here.
        """
        n = _count(n)
        mu, Sigma = np.atleast_1d(np.asarray(mu, dtype=np.float64)), np.atleast_2d(np.asarray(Sigma, dtype=np.float64))
        p = mu.size
        if mu.ndim != 1 or Sigma.shape != (p, p):
            raise ValueError(
                f"mvrnorm: Sigma must be p x p for p = {p} means, got shape {Sigma.shape}; give a row and column a mean"
            )
        finite = np.isfinite(mu).all() and np.isfinite(Sigma).all()
        if not (finite and np.allclose(Sigma, Sigma.T, rtol=1e-12, atol=0.0)):
            raise ValueError(
                f"mvrnorm: mu must be finite, Sigma finite and symmetric, got mu={mu.tolist()}, "
                f"Sigma={Sigma.tolist()}; correct that entry"
            )
        ev, V = _eigen(Sigma)
        if ev[-1] < -1e-6 * abs(ev[0]):
            raise ValueError(
                f"mvrnorm: Sigma must be positive semi-definite, got smallest eigenvalue {ev[-1]:.6g}; "
                "lower its covariances or raise its variances"
            )
        X = self.rnorm(p * n).reshape(p, n)
        root = V * np.sqrt(np.maximum(ev, 0.0))
        # Summed term by term, as the reference BLAS does: an optimised one may fuse or reorder, and change last digits.
        draws = np.zeros((p, n))
        for k in range(p):
            draws += root[:, k, None] * X[k]
        return (mu[:, None] + draws).T


def _count(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        raise ValueError(f"n must be an integer >= 0, got {n!r}; give the number of draws")
    return int(n)
