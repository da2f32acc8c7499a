"""The recurrence in torch's own graph, and backward passes under `create_graph`.

torch runs a backward pass with gradients enabled exactly if its result is to be differentiated
again. A strategy by hand then either hands over to torch's graph, if its gradient is the exact one,
or refuses: torch itself would take its gradient for a constant where the incoming one is.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bptt_lab.core.cell import Cell, project, step
from bptt_lab.gradients.base import without_autocast
from bptt_lab.gradients.stack import by_layer, last_state


def unroll_in_graph(
    leaves: Sequence[Tensor],
    cell: Cell,
    lengths: Sequence[int] | None,
    masks: Sequence[Tensor | None],
) -> tuple[Tensor, Tensor]:
    """Run a stack: the last layer's states (L, N, H) and every layer's last state, in the graph.

    The leaves are input (L, N, I), hx (num_layers, N, H) and all parameters, of one type.
    """
    x_LNI, hx, *parameters = leaves
    ends = None if lengths is None else [length - 1 for length in lengths]
    h_n = []
    for weights, h_NH, mask in zip(by_layer(parameters, len(hx)), hx, masks, strict=True):
        states = []
        for projected_NH in project(x_LNI if mask is None else x_LNI * mask, weights):
            h_NH = step(projected_NH, h_NH, weights.hh, cell)
            states.append(h_NH)
        x_LNI = torch.stack(states)
        h_n.append(last_state(x_LNI, ends))
    return x_LNI, torch.cat(h_n)


def differentiable_gradients(
    leaves: Sequence[Tensor],
    cell: Cell,
    lengths: Sequence[int] | None,
    masks: Sequence[Tensor | None],
    needed: Sequence[bool],
    grad_outputs: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Return the gradients of `unroll_in_graph`, for the leaves that are needed.

    They are functions of the leaves and of `grad_outputs`, where None is zero.
    """
    # Views: one leaf may be made from another, whose gradient must not count that way too.
    views = [leaf.view_as(leaf) for leaf in leaves]
    with without_autocast(leaves[0]):
        outputs = zip(unroll_in_graph(views, cell, lengths, masks), grad_outputs, strict=True)
        pairs = [(output, grad) for output, grad in outputs if grad is not None]
        wanted = [view for view, need in zip(views, needed, strict=True) if need]
        ends, grads = [output for output, _ in pairs], [grad for _, grad in pairs]
        found = iter(torch.autograd.grad(ends, wanted, grads, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


def refuse_transforms(what: object, leaves: Sequence[Tensor | None]) -> None:
    """Raise a RuntimeError in torch.func's transforms, forward mode and batched backward passes."""
    known = [leaf for leaf in leaves if leaf is not None]
    dual = forward_ad._current_level >= 0 and any(
        forward_ad.unpack_dual(leaf).tangent is not None  # type: ignore[no-untyped-call]
        for leaf in known
    )
    batched = False
    if known and not torch.is_grad_enabled():  # a backward pass, whose gradients are batched alike
        batched = torch._C._functorch.is_legacy_batchedtensor(known[0])
    if dual or batched or torch._C._are_functorch_transforms_active():
        where = "torch.func, vmap, forward mode, is_grads_batched"
        raise RuntimeError(f"{where}: {what} has .backward() only; use Autograd()")


def refuse_second_derivative(what: object, *gradients: Tensor | None) -> None:
    """Raise a RuntimeError in a backward pass that is to be differentiated itself, or batched."""
    refuse_transforms(what, gradients)
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"create_graph=True: {what} cannot be differentiated twice; use Full(), "
            "Checkpointed() or Autograd()"
        )
