"""What torch.export and torch.jit.trace record of a network: operations of torch alone.

The C core works on data, and a graph that is being recorded has none. What is recorded has torch's
own gradient, which is full BPTT's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell
from bptt_lab.gradients.base import GradientStrategy, RecurrentNet, dropout_masks
from bptt_lab.gradients.differentiable import unroll_in_graph
from bptt_lab.gradients.stack import cast

_OPERATIONS = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}


def at_work() -> bool:
    """Whether a graph is being recorded that outlives the call."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return traced or torch.compiler.is_exporting()


def states(
    rnn: RecurrentNet,
    gradient: GradientStrategy,
    input_LNI: Tensor,
    hx: Tensor,
    lengths: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    """Run a stack: the last layer's states (L, N, H) and every layer's last state.

    Where torch has an operation for the network, the graph holds that, for any number of steps if
    torch.jit traces it. Otherwise it holds each of the steps.

    Raises:
        RuntimeError: where a gradient is asked for that the graph would not have.
    """
    if torch.is_grad_enabled() and not gradient.exact_within_chunk:
        raise RuntimeError(
            f"gradient={gradient!r}: its gradient cannot be exported or traced; do it under "
            "torch.no_grad(), or write ONNX by bptt-export"
        )
    leaves = cast(rnn, input_LNI, hx)
    if rnn.leak == 1 and rnn.nonlinearity in _OPERATIONS and lengths is None:
        run, shape = _OPERATIONS[rnn.nonlinearity], (rnn.bias, rnn.num_layers, rnn.dropout)
        output, h_n = run(leaves[0], leaves[1], leaves[2:], *shape, rnn.training, False, False)
        return output, h_n
    masks = dropout_masks(rnn, input_LNI)
    return unroll_in_graph(leaves, Cell(rnn.nonlinearity, rnn.leak), lengths, masks)
