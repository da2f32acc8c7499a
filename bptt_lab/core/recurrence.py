"""A layer over time, forward and backward: one small interface, whatever kernel does the work.

The C core does it where it was built and can work on the tensors (float32 or float64 on a CPU),
operations of torch everywhere else. Both give the same numbers to rounding.
"""

from collections.abc import Sequence, Set

from torch import Tensor

from bptt_lab.core.cell import Cell, Layer, Swept, Weights
from bptt_lab.core.kernels import core, reference


def unroll(
    input_LNI: Tensor,
    hx_NH: Tensor,
    weights: Weights,
    cell: Cell,
    *,
    recorded: bool = True,
    steady: bool = False,
) -> Layer:
    """Run one layer over time.

    Args:
        input_LNI: (L, N, I).
        hx_NH: the state before the first step, (N, H).
        weights: the layer's parameters.
        cell: its nonlinearity and leak.
        recorded: whether a sweep back is to follow.
        steady: whether a sequence's states are to depend on nothing but its inputs and first
            state, to the last bit: not on L, N, its place in the batch or threads. Not recorded.

    Returns:
        The layer, row 0 of its states being `hx_NH`. What is not recorded has the states in the
        place of phi's values.
    """
    kernel = core if core.supports(input_LNI, hx_NH, *weights) else reference
    if cell.leak == 1 or steady or not recorded:
        states = kernel.unroll(input_LNI, hx_NH, weights, cell, steady=steady)
        return Layer(input_LNI, states, states[1:], weights)
    values = input_LNI.new_empty(len(input_LNI), *hx_NH.shape)
    states = kernel.unroll(input_LNI, hx_NH, weights, cell, values)
    return Layer(input_LNI, states, values, weights)


def sweep(
    q_LNH: Tensor | None,
    layer: Layer,
    cell: Cell,
    want: Set[str],
    *,
    q_last_NH: Tensor | None = None,
    keep: Sequence[float] | None = None,
) -> Swept:
    """Sweep one layer back over time, from immediate credit to gradients.

    Args:
        q_LNH: immediate credit dE_t/dh_t, (L, N, H), expanded or not; None is zero.
        layer: as `unroll` returns it.
        cell: its nonlinearity and leak.
        want: names of fields of `Swept`; the others stay None.
        q_last_NH: added to the last step's immediate credit, (N, H).
        keep: L factors; factor t multiplies the credit that step t hands to step t - 1: 0 cuts
            there, None keeps everything. Factor 0 belongs to h_0 and is not used.
    """
    supported = core.supports(layer.input, layer.states, *layer.weights)
    swept = core.sweep if supported else reference.sweep
    return swept(q_LNH, layer, cell, want, q_last_NH=q_last_NH, keep=keep)
