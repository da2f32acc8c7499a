"""Whether a run can go on from what a checkpoint holds, found before it trains."""

import copy
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from bptt_lab.gradients.base import Carry
from bptt_lab.training.module import SequenceModule


def judge(
    saved: Any, carry: Carry | None, trainer: Trainer, module: SequenceModule, *, finite: bool
) -> None:
    """Compare what a checkpoint holds with the run's own, and take a step on copies.

    Raises:
        Exception: of any kind, where it does not fit; with `finite` for inf and NaN in it, too.
    """
    state = module.state_dict()
    averages = state if module.average is None else module.average.kept
    parts = {"state_dict": saved["state_dict"], "average": averages}
    own = {"loops": trainer.fit_loop.state_dict(), **dict.fromkeys(parts, state)}
    if place := unlike({"loops": saved["loops"]["fit_loop"], **parts}, own):
        raise ValueError(f"it has nothing that fits at{place}")
    (optimizer,) = saved["optimizer_states"]
    tensors = [*saved["state_dict"].values(), *averages.values()]
    tensors += _stepped(module, copy.deepcopy(optimizer))
    if carry is not None:
        input = carry.hx.new_zeros(1, carry.hx.shape[1], module.rnn.input_size)
        with trainer.precision_plugin.train_step_context():
            output, _ = module.rnn.gradient.unroll(module.rnn, input, copy.deepcopy(carry))
        tensors.append(output)
    if finite and not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise ValueError("it holds inf or NaN, or a step from it does")


def _stepped(module: SequenceModule, state: Any) -> list[nn.Parameter]:
    """Return copies of the parameters after a step with a gradient of ones."""
    parameters = [nn.Parameter(p.detach().clone()) for p in module.parameters()]
    optimizer = module.make_optimizer(parameters)
    optimizer.load_state_dict(state)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(lambda: 0.0)
    return parameters


def unlike(saved: Any, now: Any, place: str = "") -> str:
    """Say where nested dictionaries lack what those of now have, or have it in another form."""
    if _form(saved) != _form(now):
        return place
    inner = now.items() if isinstance(now, dict) else ()
    return next(filter(None, (unlike(saved.get(k), v, f"{place} {k}") for k, v in inner)), "")


def _form(value: Any) -> Any:
    tensor = isinstance(value, Tensor)
    return (value.shape, value.dtype) if tensor else isinstance(value, dict) or type(value)
