"""What became of a fit, with a sentence for people. The order is that of the kernel's codes."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["InferenceStatus", "Status", "is_converged", "is_failed", "sentence_of"]


class Status(IntEnum):
    """Status of a fit, with a sentence for people.

    ok and singular (on the boundary: a variance is 0, or a correlation -1 or 1) hold the certificate of an optimum;
    not_converged, rank_deficient, nonfinite, method_error and separated do not, and have no estimates to use: `measure.subsets`
    leaves them out.
    """

    ok = 0
    singular = 1
    not_converged = 2
    rank_deficient = 3
    nonfinite = 4
    method_error = 5
    separated = 6

    @property
    def converged(self) -> bool:
        """Whether the fit holds the certificate of an optimum: ok or singular."""
        return self <= Status.singular

    @property
    def sentence(self) -> str:
        """What became of the fit, for people."""
        return _SENTENCES[self]


def is_converged(status: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Whether fits, by their codes, hold the certificate of an optimum."""
    return status <= Status.singular


def is_failed(status: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Whether fits, by their codes, have no estimates at all; those that stopped short of an optimum have."""
    return status > Status.not_converged


_SENTENCES = {
    Status.ok: "The fit is an optimum inside the parameter space.",
    Status.singular: "The fit is an optimum on the boundary: a variance is 0 or a correlation is -1 or 1.",
    Status.not_converged: "No starting point led to an optimum: the estimates are the best point found and should not be used.",
    Status.rank_deficient: "Columns are linear combinations of one another, or the data can't tell the variances apart.",
    Status.nonfinite: "The data or the deviance are not finite, or the residual variance is 0 (a response without noise).",
    Status.method_error: "The method raised an error.",
    Status.separated: "The likelihood has no maximum: it rises as estimates run to infinity (outcomes are separated).",
}


class InferenceStatus(IntEnum):
    """What became of the inference on a fit, by one rule."""

    ok = 0
    no_fit = 1
    no_df = 2
    no_interval = 3
    no_test = 4

    @property
    def failed(self) -> bool:
        """Whether there are estimates, but not all of their inference."""
        return self >= InferenceStatus.no_df

    @property
    def sentence(self) -> str:
        return _INFERENCE_SENTENCES[self]


_INFERENCE_SENTENCES = {
    InferenceStatus.ok: "Every standard error, degree of freedom, interval and test that was asked for is there.",
    InferenceStatus.no_fit: "There are no estimates to infer from.",
    InferenceStatus.no_df: "Standard errors or degrees of freedom are undefined: singular information, or too few clusters.",
    InferenceStatus.no_interval: "A limit of a profile or bootstrap interval was not found.",
    InferenceStatus.no_test: "A likelihood ratio or bootstrap test has no p value: a model that it compares could not be fitted.",
}


def sentence_of(name: str) -> str:
    """Say what a status means, of a fit or of the inference on it; the name of a rule may follow it.

    >>> sentence_of("no_df/satterthwaite")
    'Standard errors or degrees of freedom are undefined: singular information, or too few clusters.'
    """
    plain = name.partition("/")[0]
    return Status[plain].sentence if plain in Status.__members__ else InferenceStatus[plain].sentence
