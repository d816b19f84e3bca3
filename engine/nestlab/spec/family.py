"""Families of outcomes: the distribution of y given the linear predictor eta = X beta + Z u, and the link from its mean to eta.

    gaussian             y ~ N(eta, residual variance)
    binomial             y ~ Binomial(trials, mu),         link(mu) = eta: logit, probit or cloglog (complementary log-log)
    poisson              y ~ Poisson(mu),                  log(mu) = eta + log(exposure)
    negative-binomial    E y = mu, Var y = mu + mu^2 / k,  log(mu) = eta + log(exposure); dispersion k, infinite: Poisson

A binary or ordered outcome can be seen as a latent y* = eta + e that crosses 0; e has the variance `Family.latent_variance`, on
which the latent intraclass correlation rests (Goldstein, Browne and Rasbash 2002, Understanding Statistics 1(4)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAMILIES", "GAUSSIAN", "KINDS", "LINKS", "STUDY_FAMILIES", "Family", "linear_predictor", "mean_of"]

Array = NDArray[np.float64]

#: The links of each family, its default first.
FAMILIES: dict[str, tuple[str, ...]] = {
    "gaussian": ("identity",),
    "binomial": ("logit", "probit", "cloglog"),
    "poisson": ("log",),
    "negative-binomial": ("log",),
}
#: Those that a study may have.
STUDY_FAMILIES = ("gaussian", "binomial", "poisson")
#: The variance of the latent error of a binary outcome, by link.
LINKS = {"logit": math.pi**2 / 3, "probit": 1.0, "cloglog": math.pi**2 / 6}


#: The number by which compiled code knows a family and its link.
KINDS = {
    ("binomial", "logit"): 0,
    ("binomial", "probit"): 1,
    ("binomial", "cloglog"): 2,
    ("poisson", "log"): 3,
    ("negative-binomial", "log"): 4,
}


@dataclass(frozen=True, slots=True)
class Family:
    """The family and the link of an outcome. name: a key of FAMILIES; link: one of its links.

    >>> Family("binomial", "probit").latent_variance
    1.0
    """

    name: str = "gaussian"
    link: str = "identity"

    @staticmethod
    def named(name: str, link: str | None = None) -> Family:
        """Return a family with its default link or another. Raises ValueError for names that are not in FAMILIES.

        >>> Family.named("poisson")
        Family(name='poisson', link='log')
        >>> Family.named("poisson", "logit")
        Traceback (most recent call last):
        ValueError: link = "logit": family poisson has link log.
        """
        if name not in FAMILIES:
            raise ValueError(f'family = "{name}": must be one of {", ".join(FAMILIES)}.')
        links = FAMILIES[name]
        if link is not None and link not in links:
            raise ValueError(f'link = "{link}": family {name} has link {" or ".join(links)}.')
        return Family(name, links[0] if link is None else link)

    @property
    def gaussian(self) -> bool:
        return self.name == "gaussian"

    @property
    def kind(self) -> int:
        """Its number in KINDS; KeyError for the Gaussian family."""
        return KINDS[self.name, self.link]

    @property
    def counts(self) -> bool:
        """Whether outcomes are counts without an upper limit, which may have an exposure."""
        return self.name in ("poisson", "negative-binomial")

    @property
    def latent_variance(self) -> float:
        """The variance of the latent error behind a binary outcome; nan for other families."""
        return LINKS.get(self.link, math.nan)


GAUSSIAN = Family()


def mean_of(link: str, eta: Array | float) -> Array:
    """Return the mean of y (of one trial, or per unit of exposure) at a linear predictor, elementwise."""
    eta = np.asarray(eta, dtype=float)
    if link == "logit":
        found: Array = 0.5 * (1.0 + np.tanh(0.5 * eta))
    elif link == "probit":
        from scipy.special import ndtr  # 0.1 s to load

        found = ndtr(eta)
    elif link == "cloglog":
        found = -np.expm1(-np.exp(eta))
    elif link == "log":
        found = np.exp(eta)
    else:
        found = eta
    return found


def linear_predictor(link: str, mean: Array | float) -> Array:
    """Return the linear predictor at which y has a mean, elementwise: the inverse of `mean_of`.

    >>> float(mean_of("cloglog", linear_predictor("cloglog", 0.2)).round(12))
    0.2
    """
    mean = np.asarray(mean, dtype=float)
    if link == "logit":
        found: Array = np.log(mean) - np.log1p(-mean)
    elif link == "probit":
        from scipy.special import ndtri

        found = ndtri(mean)
    elif link == "cloglog":
        found = np.log(-np.log1p(-mean))
    elif link == "log":
        found = np.log(mean)
    else:
        found = mean
    return found
