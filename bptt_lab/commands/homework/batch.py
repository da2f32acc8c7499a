"""What becomes of several sequences: each by itself, or their mean, as the exercise asks.

The answer to N sequences is compared with the answer's own to each of them alone, so that whatever
else is wrong is not counted again.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bptt_lab.commands.homework import words
from bptt_lab.commands.homework.exercise import differ
from bptt_lab.commands.homework.words import Array


def apart(
    name: str, got: Array, alone: Sequence[Array], more: Mapping[str, Array], axis: int = 1
) -> list[str]:
    """Say how sequences that stand side by side along an axis differ from each alone.

    Args:
        name: of the output.
        got: what came of all sequences.
        alone: what came of each.
        more: sentences, and what their mistakes make of the right answer.
        axis: of the sequences.
    """
    expected = np.concatenate(alone, axis)
    if not expected.any():
        return [f"{name}: is 0 for each sequence alone"]
    if words.near(got, expected):
        return []
    mean = np.repeat(expected.mean(axis, keepdims=True), len(alone), axis)
    mistakes = {
        "is averaged over the sequences: every one has the mean": mean,
        "is summed over the sequences: every one has the sum": mean * len(alone),
        "every sequence has what belongs to the first": np.repeat(
            np.take(expected, [0], axis), len(alone), axis
        ),
        "the sequences stand in reverse order": np.flip(expected, axis),
        **more,
    }
    for sentence, value in mistakes.items():
        if words.near(got, value):
            return [f"{name}: {sentence}"]
    if c := words.ratio(got, expected):
        by_n = "is divided by N" if abs(c * len(alone) - 1) < 1e-4 else ""
        return [f"{name}: {by_n or words.scale([(c, {})])}"]
    for n in range(len(alone)):
        one, wanted = np.take(got, n, axis), np.take(expected, n, axis)
        if not words.near(one, wanted):
            return [differ(f"{name}: sequence {n + 1} is not as alone", one, wanted)]
    return []


def mean(
    name: str, got: Array, alone: Sequence[Array], mistakes: Mapping[str, Array] | None = None
) -> list[str]:
    """Say how a mean over sequences differs from the mean of each alone.

    Args:
        name: of the output.
        got: what came of all sequences.
        alone: what came of each.
        mistakes: sentences, and what they make of the right answer up to a factor.
    """
    N = len(alone)
    if not any(a.any() for a in alone):
        return [f"{name}: is 0 for each sequence alone"]
    columns = np.stack([a.reshape(-1) for a in alone], 1)
    if words.near(got, np.mean(alone, 0)):
        return []
    found, *_ = np.linalg.lstsq(columns, got.reshape(-1), rcond=None)
    if not words.near(columns @ found, got.reshape(-1)):
        for sentence, value in (mistakes or {}).items():
            if words.ratio(got, value):
                return [f"{name}: {sentence}"]
        return [
            differ(
                f"{name} is not the mean of what each sequence has alone", got, np.mean(alone, 0)
            )
        ]
    counts = [float(c) for c in found]
    if np.allclose(counts, 0, atol=1e-5):
        return [f"{name} is 0"]
    if np.allclose(counts, counts[0], rtol=1e-4):
        named = {
            1.0: "sum for mean: it is not divided by N",
            1 / N**2: "it is divided by N twice",
            float(N): "it is multiplied by N",
            -1 / N: "the wrong sign",
        }
        for c, sentence in named.items():
            if abs(counts[0] - c) < 1e-4:
                return [f"{name}: {sentence}"]
    listed = ", ".join(f"{round(c, 6) + 0.0:.3g}" for c in counts)
    return [f"{name}: the sequences count {listed} times, must count 1/{N} each"]
