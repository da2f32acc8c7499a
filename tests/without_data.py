"""A mode that runs the package on the `meta` device, where tensors have a place but no data.

Autocast does not exist there, so mixed precision is tried on the CPU only.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten

# Functions that need numbers and not only shapes: a GPU waits for them there. With the reason.
NEEDS_DATA = {
    "nn.initialisation.initialise": "to: W_hh is drawn where the generator is",
    "gradients.stack.Stack.immediate": "nonzero: which sequences end inside a part of the chunk",
    "gradients.adaptive.Adaptive.update": "float: compares the bias of each lag with the target",
    "gradients.credit_clip.CreditClip.modify": "int: how many credits it clipped, as a reading",
    "diagnostics.linearise.linearise": "bool: refuses weights and states that are not finite",
    "diagnostics.linearise.reach": "nonzero, tolist: which steps have a loss",
    "diagnostics.lags.LagSpectrum.effective_lag": "any, nonzero, int: a lag is a number",
    "diagnostics.lags.LagSpectrum.smallest_k": "nonzero, int: k is a number",
    "diagnostics.jacobians.jacobian_spectrum": "float: radius, norm and condition are numbers",
    "diagnostics.alignments._compare": "bool, float: its figures are numbers",
    "diagnostics.alignments._estimate": "float: its figures are numbers",
    "diagnostics.alignments._jackknife": "float: its figures are numbers",
    "training.module.SequenceModule.on_train_batch_start": "int: how many elements count",
    "training.module.SequenceModule.on_validation_epoch_end": "float: metrics to log",
    "training.histograms.log_histograms": "cpu: bins are counted there",
    "training.callbacks.probe.probe": "bool: whether the probe has a loss at all",
    "training.callbacks.credit.CreditHistogram.on_train_batch_start": "bool, float: shares to log",
    "training.callbacks.credit_flow.CreditFlow.read": "cpu: what pictures are made of",
    "training.callbacks.exact_shadow.ExactShadow._readings": "float: scalars to log",
    "training.callbacks.gradient_norms.GradientNorms.on_before_optimizer_step": (
        "float: whether all norms are finite"
    ),
    "training.callbacks.gradient_norms.GradientNorms._write": "cpu, float: norms to log",
    "training.callbacks.lag_spectrum.LagSpectrum.read": "float: scalars to log",
    "training.callbacks.pictures.complex_plane": "numpy: a picture",
    "training.callbacks.pictures.curves": "numpy: a picture",
    "training.callbacks.recurrence.Recurrence.read": "float: scalars to log",
    "training.callbacks.training_loss.TrainingLoss._write": "tolist: the mean to log",
}


class WithoutData(TorchDispatchMode):
    """Refuse a CPU tensor beside a meta tensor; answer with ones where data are needed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()  # functions of ours that needed data

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if not any(t.is_meta for t in tensors):
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            self.asked.add(_caller())
            return torch.ones((), dtype=tensors[0].dtype).item()
        if func in (aten._to_copy.default, aten.copy_.default):
            return self._copy(func, args, kwargs)
        # A 0-dimensional CPU tensor is a number, which may stand beside a tensor anywhere.
        placed = [t for t in tensors if t.dim() > 0 and not t.is_meta]
        assert not placed, f"{_caller()}: {func} of a CPU tensor {tuple(placed[0].shape)}"
        generators = [value for value in kwargs.values() if isinstance(value, torch.Generator)]
        assert not generators, f"{_caller()}: {func} draws from a generator of the CPU"
        try:
            return func(*args, **kwargs)
        except NotImplementedError:  # of nonzero and the like: the shape depends on data
            self.asked.add(_caller())
            return tree_map(_to_meta, func(*tree_map(_ones, args), **tree_map(_ones, kwargs)))

    def _copy(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Copy from one place to another, which is no mistake; to the CPU, ones."""
        device = args[0].device if func is aten.copy_.default else kwargs.get("device")
        if device != torch.device("cpu"):
            return func(*args, **kwargs)
        self.asked.add(_caller())
        return func(*tree_map(_ones, args), **kwargs)


def _ones(value: Any) -> Any:
    return torch.ones_like(value, device="cpu") if _is_meta(value) else value


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def _is_meta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_meta


def _caller() -> str:
    """The innermost function of the package that is at work, as module.function."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("bptt_lab."):
            function = frame.f_code.co_qualname.partition(".<locals>")[0]
            return f"{name.removeprefix('bptt_lab.')}.{function}"
        frame = frame.f_back
    return "the test"
