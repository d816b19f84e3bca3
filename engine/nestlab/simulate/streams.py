"""Random streams: the only place that makes Generators.

A stream is named by the study's seed, a 256-bit key (what is drawn) and a block number, through NumPy's SeedSequence, so that any
block can be drawn alone, by any worker, in any order. NumPy keeps the bits of SeedSequence and of SFC64 across versions, and the
deviates are made in `deviates.py`; what could still change a draw raises `DRAW_VERSION`, and a test holds the first draws.
"""

from __future__ import annotations

from numpy.random import SFC64, Generator, SeedSequence

from ..spec.identity import key_words

__all__ = [
    "block_generator",
    "conditional_generator",
    "fixed_generator",
    "null_generator",
    "prior_generator",
    "resampling_generator",
]

#: Last words of the names of streams that draw anew from a fit, or from priors: other streams' names are shorter.
_RESAMPLING, _NULL, _PRIOR = 1, 2, 3


def block_generator(seed: int, data_key: str, block: int) -> Generator:
    """The stream of one block (0, 1, ...) of a condition."""
    return _generator(seed, data_key, block)


def conditional_generator(seed: int, data_key: str, block: int, replicate: int) -> Generator:
    """The stream of one replicate's rows given its sufficient statistics; replicate counts within the block."""
    return _generator(seed, data_key, block, replicate)


def fixed_generator(seed: int, layout_key: str) -> Generator:
    """The stream of a predictor that is drawn once and kept over replicates (and over all conditions of one layout)."""
    return _generator(seed, layout_key, 0)


def resampling_generator(seed: int, key: str, block: int, replicate: int) -> Generator:
    """The stream of an analysis that draws from one replicate's fit, as the bootstrap does; replicate counts within the block."""
    return _generator(seed, key, block, replicate, _RESAMPLING)


def null_generator(seed: int, key: str) -> Generator:
    """The stream of a null distribution that all replicates of a condition share."""
    return _generator(seed, key, 0, 0, _NULL)


def prior_generator(seed: int, data_key: str, block: int) -> Generator:
    """The stream of the truths of a block's replicates."""
    return _generator(seed, data_key, block, 0, _PRIOR)


def _generator(seed: int, key: str, *index: int) -> Generator:
    return Generator(SFC64(SeedSequence(seed, spawn_key=(*key_words(key), *index))))
