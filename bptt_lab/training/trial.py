"""Whether a run can go on from what a checkpoint holds, found before it trains."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from bptt_lab.gradients.base import Carry
from bptt_lab.training.module import SequenceModule


def judge(
    saved: Any, carry: Carry | None, trainer: Trainer, module: SequenceModule, *, finite: bool
) -> None:
    """Compare what a checkpoint holds with the run's own, and take a step on copies.

    Raises:
        Exception: of any kind, where it does not fit; with `finite` for inf and NaN in it, too.
    """
    state = dict(module.state_dict())
    averages = state if module.average is None else module.average.kept
    parts = {"state_dict": saved["state_dict"], "average": averages}
    own = {"loops": trainer.fit_loop.state_dict(), **dict.fromkeys(parts, state)}
    if place := unlike({"loops": saved["loops"]["fit_loop"], **parts}, own):
        raise ValueError(f"it has nothing that fits at {place}")
    (optimizer,) = saved["optimizer_states"]
    parts["parameters after a step"] = dict(enumerate(_stepped(module, copy.deepcopy(optimizer))))
    if carry is not None:
        input = carry.hx.new_zeros(1, carry.hx.shape[1], module.rnn.input_size)
        with trainer.precision_plugin.train_step_context():
            parts["carry"] = module.rnn.gradient.unroll(module.rnn, input, copy.deepcopy(carry))[:1]
    for what, tensors in parts.items() if finite else ():
        values = tensors.values() if isinstance(tensors, dict) else tensors
        if not all(bool(tensor.isfinite().all()) for tensor in values):
            raise ValueError(f"its {what} is not finite")


def _stepped(module: SequenceModule, state: Any) -> Iterator[Tensor]:
    """Yield copies of the parameters after a step with a gradient of ones."""
    parameters = [p.detach().clone().requires_grad_() for p in module.parameters()]
    optimizer = module.make_optimizer(parameters)
    optimizer.load_state_dict(state)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(lambda: 0.0)
    yield from parameters


def unlike(saved: Any, now: Any, place: str = "") -> str:
    """Say where nested containers lack what those of now have, or have it in another form."""
    if isinstance(now, Tensor):
        fits = isinstance(saved, Tensor) and (saved.shape, saved.dtype) == (now.shape, now.dtype)
    else:
        fits = isinstance(saved, type(now))
    if not fits:
        return place
    for key, value in now.items() if isinstance(now, dict) else ():
        inner = f"{place}.{key}".lstrip(".")
        if key not in saved:
            return inner
        if odd := unlike(saved[key], value, inner):
            return odd
    return ""
