"""Twenty sequences, and what one may know of them, as arrays, lists and rows of a frame."""

import numpy as np
import pandas as pd

M, T = 20, 6
SPLITS = ("train", "val", "test")
X = np.random.default_rng(0).standard_normal((M, T, 2)) * [1, 30] + [0, 7]
K = np.random.default_rng(1).integers(0, 3, M)  # classes
LENGTHS = [1 + m % T for m in range(M)]
RAGGED = [x[:n] for x, n in zip(X, LENGTHS, strict=True)]
STEPS = X.sum(2)  # a number for each step
LABELS = (X[..., 0] > 0).astype(int) + (X[..., 1] > 7)  # a class for each step
MASK = np.random.default_rng(2).random((M, T)) < [1, *[0.6] * (T - 1)]
SPLIT = [("train", "val", "test")[m % 5 % 3] for m in range(M)]
NAN = np.where(np.arange(T)[:, None] < np.array(LENGTHS)[:, None, None], X, np.nan)
PREFIX = np.arange(T) < np.array(LENGTHS)[:, None]


def rows(inputs, targets, lengths=None):
    return [list(x)[:n] for x, n in zip(targets, lengths or [len(x) for x in inputs], strict=True)]


def masked(targets, mask):
    return [[t if counts else None for t, counts in zip(*pair, strict=False)]
            for pair in zip(targets, mask, strict=True)]  # fmt: skip


def strided(array):
    wide = np.zeros((2 * len(array), *array.shape[1:]), array.dtype)
    wide[::-2] = array
    return wide[::-2]


def frame(**columns):
    """A row for each step of RAGGED."""
    number = np.repeat(np.arange(M), LENGTHS)
    time = np.concatenate([np.arange(n) for n in LENGTHS])
    both = np.concatenate(RAGGED)
    found = {"sequence": number, "time": time, "a": both[:, 0], "b": both[:, 1], **columns}
    return pd.DataFrame(found).sample(frac=1, random_state=0)


def each(values):
    return np.repeat(values, LENGTHS)


FLAT = np.concatenate([row[:n] for row, n in zip(STEPS, LENGTHS, strict=True)])
FLAT_LABELS = np.concatenate([row[:n] for row, n in zip(LABELS, LENGTHS, strict=True)])
COUNTS = np.concatenate([mask[:n] for mask, n in zip(MASK, LENGTHS, strict=True)])
PIECES = np.cumsum(LENGTHS)[:-1]
WORDS = np.array(["calm", "storm", "wind"])
LAST = {"at_end": True}
CONSTANT = np.concatenate((X, np.full((M, T, 1), 0.1)), 2)
NAMED = {"sequence": "patient", "time": "day", "features": ["b", "a"], "target": ["x", "y"]}
LONG = X.reshape(1, M * T, 2)
