"""Numbers for the calls: none is 0 or near another, so that no two mistakes look the same."""

import numpy as np

from bptt_lab.commands.homework.words import Array


class Draws:
    """Numbers from a seed."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def states(self, *shape: int) -> Array:
        """Values of tanh, none of them near 0, 1 or -1."""
        signs = self._generator.choice([-1.0, 1.0], shape)
        return signs * self._generator.uniform(0.15, 0.85, shape)

    def weights(self, *shape: int) -> Array:
        """Entries of a matrix or a bias."""
        return self._generator.normal(0, 0.6, shape)

    def vectors(self, *shape: int) -> Array:
        """Credit, deltas or inputs."""
        signs = self._generator.choice([-1.0, 1.0], shape)
        return signs * self._generator.uniform(0.3, 1.5, shape)


def only(values: Array, t: int) -> Array:
    """The values with those of all steps but t put to 0; steps count from 1, and 0 is none."""
    kept = np.zeros_like(values)
    if t:
        kept[t - 1] = values[t - 1]
    return kept
