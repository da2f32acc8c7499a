"""R layers over time, forward and backward, each with the bits that it has alone on one thread.

Each call only prepares the work, on tensors that stay where they are, and returns what does it, as
often as it is called. The C core runs the layers side by side in one call; without it they run one
after the other. Equations are those of bptt_lab.core.cell; R counts layers, first in every shape.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from bptt_lab.core import recurrence
from bptt_lab.core.cell import Cell, Layer, Swept, Weights
from bptt_lab.core.kernels import core


def unroll(layers: Layer, phi: str, leaks: Sequence[float]) -> Callable[[], None]:
    """Prepare to run R layers over time.

    Args:
        layers: input (R, L, N, I), weights with R in front, and what is written: states
            (R, L + 1, N, H) but for their row 0, which is given, and values (R, L, N, H), which may
            be `states[:, 1:]` where all leaks are 1. Only R may have a stride of its own.
        phi: the nonlinearity of all.
        leaks: R numbers.
    """
    if core.supports(layers.input, layers.states, layers.values, *layers.weights):
        return core.many(layers, phi, leaks)

    def run() -> None:
        for r, leak in enumerate(leaks):
            one = _at(layers, r)
            done = recurrence.unroll(one.input, one.states[0], one.weights, Cell(phi, leak))
            layers.states[r].copy_(done.states)
            if leak != 1:
                layers.values[r].copy_(done.values)

    return run


def sweep(
    q_RLNH: Tensor | None,
    layers: Layer,
    phi: str,
    leaks: Sequence[float],
    into: Swept,
    *,
    q_last_RNH: Tensor | None = None,
    keep_RL: Tensor | None = None,
) -> Callable[[], None]:
    """Prepare to sweep R layers back over time; see bptt_lab.core.recurrence.

    Args:
        q_RLNH: immediate credit; contiguous over H.
        layers: as `unroll` leaves them.
        phi: the nonlinearity of all.
        leaks: R numbers.
        into: where what is wanted is written, (R, ...) each; only R may have a stride of its own.
        q_last_RNH: added to the last step's immediate credit.
        keep_RL: float64 factors on the CPU; None keeps everything.
    """
    # keep is of another type, and no number of the layer.
    if core.supports(layers.input, layers.states, layers.values, *layers.weights, q_RLNH):
        return core.many(layers, phi, leaks, into, q_RLNH, q_last_RNH, keep_RL)
    want = {name for name, tensor in into._asdict().items() if tensor is not None}

    def run() -> None:
        for r, leak in enumerate(leaks):
            swept = recurrence.sweep(
                None if q_RLNH is None else q_RLNH[r],
                _at(layers, r, leak),
                Cell(phi, leak),
                want,
                q_last_NH=None if q_last_RNH is None else q_last_RNH[r],
                keep=None if keep_RL is None else keep_RL[r].tolist(),
            )
            for name in want:
                getattr(into, name)[r].copy_(getattr(swept, name))

    return run


def _at(layers: Layer, r: int, leak: float = 0) -> Layer:
    """One of the layers in memory of its own: a product's bits may depend on where it lies."""
    tensors = (*layers[:3], *layers.weights)
    own: list[Any] = [None if tensor is None else tensor[r].clone() for tensor in tensors]
    input, states, values, *weights = own
    return Layer(input, states, states[1:] if leak == 1 else values, Weights(*weights))
