"""From the file of a learner to the learner, whoever wrote the file."""

import copy
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core.validation import ConfigError, check
from bptt_lab.gradients.base import Carry
from bptt_lab.lab.learner import Learner, MakeOptimizer
from bptt_lab.lab.net import Net
from bptt_lab.runs.outcome import CheckpointError
from bptt_lab.training import checkpoint_io, network


def load_learner(
    path: str | Path, *, optimizer: MakeOptimizer | None, allow: str | Iterable[str] = ()
) -> Learner:
    """Load a learner that `Learner.save` wrote; it goes on with the bits of the one saved.

    Args:
        path: the file.
        optimizer: what the learner was made with; its state comes from the file.
        allow: packages beside this one whose gradient strategy the file may name.

    Raises:
        ConfigError: on one line, for a file that is damaged or not a learner's, another optimizer,
            and a class that may not be named.
    """
    try:
        saved = checkpoint_io.read(Path(path), "cpu")
    except CheckpointError as error:
        raise ConfigError(f"{error}; give a file that learner.save wrote") from error
    try:
        net = Net(network.restored(saved, allow))
        frozen: Any = saved.get("frozen")
        check("frozen", frozen, list[str], {})
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name not in frozen)
        with warnings.catch_warnings(action="ignore"):  # of what it has been warned of
            learner = Learner(net, gradient=net.rnn.gradient, optimizer=optimizer)
        made, kept = type(learner.optimizer).__name__, saved.get("optimizer")
        if made != kept:
            raise ConfigError(f"optimizer={made}: must be {kept!r:.40}, as it was; give that")
        _go_on(learner, saved)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return learner


def _go_on(learner: Learner, saved: dict[str, Any]) -> None:
    """Take over carry and optimizer, if they have the form of the learner's own after a step."""
    own = copy.deepcopy(learner)
    input = torch.zeros(1, 1, own.net.codec.input_size)
    own.step(input, None)
    try:
        carry = Carry(*saved["carry"])
        for name, mine in own.carry._asdict().items():
            value = getattr(carry, name)
            absent = value is None or name in ("estimate", "rule")
            grows = name == "influence" and learner.net.rnn.gradient.grows
            if not absent and _form(value, grows) != _form(mine, grows):
                raise ValueError(f"its {name} has another form")
        learner.carry = carry
        if learner.optimizer is not None:
            learner.optimizer.load_state_dict(saved["optimizer_state"])
            tried = copy.deepcopy(learner)
            for parameter in tried.net.parameters():
                parameter.grad = torch.zeros_like(parameter)
            assert tried.optimizer is not None
            tried.optimizer.step()
        copy.deepcopy(learner).step(input, None)
    except Exception as error:  # a file made to do harm can fail in any way
        kind = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"a learner cannot go on from it ({kind:.200})") from error


def _form(value: Any, grows: bool) -> Any:
    """The types and shapes in nested containers, without the second size if that grows."""
    if isinstance(value, Tensor):
        shape = list(value.shape)
        return shape[:1] + shape[2:] if grows else shape, value.dtype
    if isinstance(value, list | tuple):
        return [_form(item, grows) for item in value]
    return type(value)
