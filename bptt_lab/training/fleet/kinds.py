"""Which replicas may be computed together, and who has to hear of their steps one by one."""

from collections.abc import Callable, Hashable

from lightning.pytorch import Callback, LightningDataModule, Trainer

from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.training.fleet.lockstep import Replica
from bptt_lab.training.module import SequenceModule

# What only Lightning's own loops tell of; a task's callback may want it.
_MORE = (
    *("on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *(f"on_{kind}_batch_{when}" for kind in ("validation", "test") for when in ("start", "end")),
)
_OF_DATA = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_OF_PARAMETERS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_OF_TORCH = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"),
)


def hooks(trainer: Trainer, name: str) -> list[Callable[..., None]]:
    """The hook of every callback that has it."""
    return [
        getattr(callback, name)
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if name in vars(callback) or getattr(type(callback), name) is not getattr(Callback, name)
    ]


def is_watched(trainer: Trainer, module: SequenceModule) -> bool:
    """Whether somebody has a hook that only Lightning's own loops and torch call."""
    task = type(trainer.datamodule)  # type: ignore[attr-defined]  # Lightning sets it late
    of_data = any(
        getattr(task, name) is not getattr(LightningDataModule, name) for name in _OF_DATA
    )
    known = vars(module), *map(vars, module.modules()), *map(vars, trainer.optimizers)
    of_torch = any(each.get(name) for each in known for name in _OF_TORCH)
    of_torch |= any(getattr(p, name) for p in module.parameters() for name in _OF_PARAMETERS)
    return of_data or of_torch or any(hooks(trainer, name) for name in _MORE)


def kind(replica: Replica, trainer: Trainer, module: SequenceModule) -> Hashable:
    """What networks have in common that may be computed together."""
    if trainer.accumulate_grad_batches > 1:
        return replica  # its gradients are sums
    parameters = tuple((name, p.shape, p.dtype) for name, p in module.named_parameters())
    rnn, optimizers = module.rnn, tuple(type(one) for one in trainer.optimizers)
    return parameters, optimizers, type(rnn.gradient), rnn.nonlinearity, module.loss


def kind_of(network: Hashable, batch: SequenceBatch) -> Hashable:
    """What their batches have in common too."""
    return network, *(tensor.shape for tensor in batch[:3])
