"""Streams by name: the same name gives the same stream, any other name another one."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from nestlab.simulate.deviates import standard_normal
from nestlab.simulate.streams import (
    block_generator,
    conditional_generator,
    fixed_generator,
    null_generator,
    resampling_generator,
)

KEY = "0123456789abcdef" * 4
SEED, BLOCK = 707, 3


def start(generator, n=1000):
    return standard_normal(generator, (n,))


def test_same_name_same_stream():
    assert_array_equal(start(block_generator(SEED, KEY, BLOCK)), start(block_generator(SEED, KEY, BLOCK)))
    assert_array_equal(start(fixed_generator(SEED, KEY)), start(fixed_generator(SEED, KEY)))


OTHERS = {
    "seed": (SEED + 1, KEY, BLOCK),
    "a seed of two words": (SEED + 2**32, KEY, BLOCK),
    "the largest seed": (2**64 - 1, KEY, BLOCK),
    "seed 0": (0, KEY, BLOCK),
    "block": (SEED, KEY, BLOCK + 1),
    "block 0": (SEED, KEY, 0),
    "a large block": (SEED, KEY, 2**31),
    "seed and block exchanged": (BLOCK, KEY, SEED),
    "first bit of the key": (SEED, "8" + KEY[1:], BLOCK),
    "last bit of the key": (SEED, KEY[:-1] + "e", BLOCK),
    "words of the key exchanged": (SEED, KEY[8:16] + KEY[:8] + KEY[16:], BLOCK),
}


@pytest.mark.parametrize("name", OTHERS.values(), ids=OTHERS.keys())
def test_other_name_other_stream(name):
    """No deviate in common, so not the same stream begun elsewhere either."""
    assert not np.isin(start(block_generator(*name)), start(block_generator(SEED, KEY, BLOCK))).any()


def test_streams_of_single_replicates_are_their_own():
    """A block's stream is not that of its first replicate, though the names differ by a 0 only."""
    names = [(block, replicate) for block in range(3) for replicate in range(3)]
    streams = [start(conditional_generator(SEED, KEY, *name)) for name in names]
    streams += [start(resampling_generator(SEED, KEY, *name)) for name in names]
    streams += [start(block_generator(SEED, KEY, block)) for block in range(3)]
    streams.append(start(null_generator(SEED, KEY)))
    assert len(np.unique(streams)) == len(streams) * 1000


def test_neighbouring_streams_are_uncorrelated():
    """200 seeds and 200 blocks: the largest of 79,800 correlations of 2,000 deviates stays below 5.5 / sqrt(2000)."""
    names = [(seed, KEY, 0) for seed in range(200)] + [(SEED, KEY, block) for block in range(200)]
    correlations = np.corrcoef([start(block_generator(*name), 2000) for name in names])
    assert np.abs(correlations[~np.eye(len(names), dtype=bool)]).max() < 5.5 / np.sqrt(2000)
