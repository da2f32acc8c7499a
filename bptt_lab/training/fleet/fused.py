"""The gradients of many networks at once, each with the bits that it has by itself.

`begin` takes what the networks carry, each `gradients` or `evaluate` goes on from there, and `end`
leaves with them what they carry then.

What a network computes alone is computed here by the same operations on the same numbers, and what
they cost beside is paid once: the C core takes all layers in one call, losses and their slopes are
elementwise and so the same in any company, and no graph is recorded. A product is one network's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core import many
from bptt_lab.core.cell import Layer, Swept, Weights
from bptt_lab.gradients.base import Carry
from bptt_lab.gradients.many import factors, inherits
from bptt_lab.gradients.past import PastFacing
from bptt_lab.nn.losses import binary_cross_entropy, masked_sum
from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.training.fleet.rules import Rules
from bptt_lab.training.fleet.stack import Stack, rows
from bptt_lab.training.module import SequenceModule


class Fused:
    """Gradients of a stack of networks on batches of one shape.

    Args:
        stack: the networks; all of them `fits`.
        batch: one like those to come.
    """

    def __init__(self, stack: Stack, batch: SequenceBatch) -> None:
        self.stack, count = stack, len(stack.modules)
        (L, N, I), rnn, like = batch.input.shape, stack.modules[0].rnn, stack.parameters
        H, self.size = rnn.hidden_size, (L, N)
        phi, leaks = rnn.nonlinearity, [module.rnn.leak for module in stack.modules]
        self.phi, self.leaks, self.leaky = phi, leaks, any(leak != 1 for leak in leaks)
        self.rnns = [module.rnn for module in stack.modules]
        self.past = isinstance(rnn.gradient, PastFacing)
        self.stamps = [own.gradient.stamp(own) for own in self.rnns]
        self.input = rows(count, L, N, I, like=like)
        self.credit = rows(count, L * N, H, like=like)  # q of the last layer
        self.layers: list[Layer] = []
        self.unrolls = []
        source = self.input
        for index in range(rnn.num_layers):
            weights = [stack.named[f"rnn.{name}"][0] for name in _names(rnn, index)]
            states = rows(count, L + 1, N, H, like=like)
            values = rows(count, L, N, H, like=like) if self.leaky else states[:, 1:]
            self.layers.append(Layer(source, states, values, Weights(*weights)))
            self.unrolls.append(many.unroll(self.layers[-1], phi, leaks))
            source = states[:, 1:]
        self.output = self.layers[-1].states[:, 1:].flatten(2, 2).view(count, L * N, H)
        # What is carried from one batch to the next.
        self._hx = like.new_zeros(count, rnn.num_layers, N, H)
        self._influences: Sequence[Any] = [None] * count
        self._estimates: list[dict[str, float] | None] = []
        self._draws: list[int] = []
        self._totals: dict[str, Tensor] = {}  # of what was evaluated
        self._trained = False  # and not evaluated
        self.keep = torch.ones(count, L, dtype=torch.float64)
        self.sweeps = [] if self.past else self._sweeps()
        self.rules = Rules(self.rnns, self.layers[0], self.credit)
        outputs = stack.modules[0].readout.out_features
        self.predicted = like.new_zeros(count, L * N, outputs)
        self.slope = self.predicted  # of the loss, by the prediction
        weights = [module.readout.weight.detach() for module in stack.modules]
        biases = [module.readout.bias.detach() for module in stack.modules]
        self.readouts = [(w, bias, w.t()) for w, bias in zip(weights, biases, strict=True)]
        self.outputs = self.output.unbind()

    def _sweeps(self) -> list[Any]:
        q: Tensor | None = self.credit.view(len(self.leaks), *self.size, -1)
        found = []
        for index in reversed(range(len(self.layers))):
            layer = self.layers[index]
            gradients = [self.stack.named[f"rnn.{n}"][1] for n in _names(self.rnns[0], index)]
            shape = layer.input.shape
            below = rows(*shape, like=self.credit) if index else None
            into = Swept(
                grad_input=below,
                grad_weight_ih=gradients[0],
                grad_weight_hh=gradients[1],
                grad_bias=gradients[2] if len(gradients) > 2 else None,
            )
            sweep = many.sweep(q, layer, self.phi, self.leaks, into, keep_RL=self.keep)
            found.append((sweep, gradients[2:]))
            q = below
        return found

    def begin(self, batches: Sequence[SequenceBatch]) -> None:
        """Take what each network carries to its next batch."""
        self.stack.hand_out()
        known = zip(self.stack.modules, batches, strict=True)
        before = [module.carry_before(batch) for module, batch in known]
        self._hx = torch.stack([carry.hx for carry in before])
        self._influences = [carry.influence for carry in before]
        self._estimates = [None if self.past else dict(c.estimate or {}) for c in before]
        self._draws = [carry.draw for carry in before]
        self._totals = {}

    def end(self) -> None:
        """Leave what each network carries with it."""
        for row, (module, hx) in enumerate(zip(self.stack.modules, self._hx.unbind(), strict=True)):
            known = hx, self._influences[row], self._draws[row], self._estimates[row]
            module.carry = Carry(*known, *[self.stamps[row]] * self._trained)
            module.sums |= {name: each[row] for name, each in self._totals.items()}

    @torch.no_grad()
    def gradients(
        self, batches: Sequence[SequenceBatch], draws: Sequence[int]
    ) -> tuple[list[Tensor], list[int]]:
        """Leave each network's gradient of its batch in `.grad`.

        Returns:
            The sums of their losses, and the elements that counted.
        """
        self._run(batches)
        totals, counts = self._losses(batches)
        influences = self._influences
        if self.past:
            fresh = [batch.is_first for batch in batches]
            before = [None if f else own for f, own in zip(fresh, influences, strict=True)]
            influences, found = self.rules(before, draws)
            self._hand_over(found)
        else:
            self._sweep(draws)
        self._influences = influences  # all at once: what fails before leaves all as it was
        self._hx, self._draws, self._trained = self._ends(), [draw + 1 for draw in draws], True
        return totals, counts

    @torch.no_grad()
    def evaluate(self, batches: Sequence[SequenceBatch]) -> None:
        """Add each batch's sums to those of the batches before."""
        self._run(batches)
        modules = self.stack.modules
        mask, target, predicted = self._predicted(batches)
        sums = {"count": [batch.mask.sum() for batch in batches]}
        sums["loss"] = self._sums(self._elements(predicted, target), mask)
        scores: dict[str, list[Tensor]] = {}
        with modules[0].trainer.precision_plugin.val_step_context():  # it may divide whole numbers
            known = zip(modules, predicted.chunk(len(modules)), batches, strict=True)
            for module, own, batch in known:  # a task's metric may depend on its data
                for name, elements in module.score(own, batch.target).items():
                    scores.setdefault(name, []).append(masked_sum(elements, batch.mask))
        totals, nothing = dict(self._totals), torch.zeros((), dtype=torch.float64)
        for name, each in (sums | scores).items():
            if name not in totals:
                totals[name] = torch.stack([module.sums.get(name, nothing) for module in modules])
            totals[name] = totals[name] + torch.stack(each).double()
        self._totals = totals  # all at once, too
        parts = zip(modules, predicted.chunk(len(modules)), batches, strict=True)
        for module, own, batch in parts:
            if module.measures is not None:
                module.measures.add(own, batch.target, batch.mask)
        self._influences = [None] * len(modules)
        self._hx, self._draws, self._trained = self._ends(), [d + 1 for d in self._draws], False

    def _run(self, batches: Sequence[SequenceBatch]) -> None:
        """Unroll all layers."""
        torch.stack([batch.input for batch in batches], out=self.input)
        if fresh := [row for row, batch in enumerate(batches) if batch.is_first]:
            self._hx[fresh if len(fresh) < len(batches) else slice(None)] = 0
        for index, (layer, unroll) in enumerate(zip(self.layers, self.unrolls, strict=True)):
            layer.states[:, 0].copy_(self._hx[:, index])
            unroll()

    def _ends(self) -> Tensor:
        return torch.stack([layer.states[:, -1] for layer in self.layers], 1)

    def _predicted(self, batches: Sequence[SequenceBatch]) -> tuple[Tensor, Tensor, Tensor]:
        """Masks (R, L, N), targets and predictions, R networks' chunks one after another."""
        known = zip(self.readouts, self.outputs, self.predicted.unbind(), strict=True)
        for (_, bias, weight_t), output, predicted in known:
            torch.addmm(bias, output, weight_t, out=predicted)
        mask = torch.stack([batch.mask for batch in batches])
        target = torch.stack([batch.target for batch in batches]).flatten(0, 1)
        return mask, target, self.predicted.view(-1, self.size[1], self.predicted.shape[2])

    def _elements(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The losses of all networks' elements."""
        loss, count = self.stack.modules[0].loss, len(self.stack.modules)
        if loss is not binary_cross_entropy:
            return loss(predicted, target)
        # Its exp and log round otherwise in a vector than in the rest that fills none.
        parts = zip(predicted.chunk(count), target.chunk(count), strict=True)
        return torch.cat([loss(*part) for part in parts])

    def _sums(self, elements: Tensor, mask: Tensor) -> list[Tensor]:
        """Each network's sum of what counts."""
        counted = torch.where(mask, elements.detach().view(mask.shape), 0)
        return [part.sum() for part in counted.unbind()]

    def _losses(self, batches: Sequence[SequenceBatch]) -> tuple[list[Tensor], list[int]]:
        """Fill in the credit of the last layer and the readouts' gradients; return the sums."""
        (L, _), count = self.size, len(batches)
        mask, target, predicted = self._predicted(batches)
        counts: list[int] = mask.sum((1, 2)).tolist()
        seeds = predicted.new_ones(count) / predicted.new_tensor([float(n or 1) for n in counts])
        with torch.enable_grad():
            predicted = predicted.detach().requires_grad_()
            elements = self._elements(predicted, target)
            seed = torch.where(mask, seeds[:, None, None], seeds.new_zeros(()))
            (slope,) = torch.autograd.grad(elements, predicted, seed.view(elements.shape))
        self._keep_slope(slope.view(count, L, *slope.shape[1:]))
        weights, biases = (self.stack.named[f"readout.{name}"][1] for name in ("weight", "bias"))
        credits, found = self.credit.unbind(), zip(weights.unbind(), biases.unbind(), strict=True)
        slopes = zip(self.slope.unbind(), self.slope.transpose(1, 2).unbind(), strict=True)
        for row, ((slope, slope_t), (weight, bias)) in enumerate(zip(slopes, found, strict=True)):
            torch.mm(slope, self.readouts[row][0], out=credits[row])
            torch.mm(slope_t, self.outputs[row], out=weight)
            torch.sum(slope, 0, out=bias)
        return self._sums(elements, mask), counts

    def _keep_slope(self, slope_RLNO: Tensor) -> None:
        """Copy the slopes to rows of their own, in the layout that one network's would have.

        Where that is no copy, a loss may leave a matrix transposed, and its sums round otherwise.
        """
        if self.slope is self.predicted:
            (L, N), count, outputs = self.size, *slope_RLNO.shape[::3]
            one = slope_RLNO[0].reshape(L * N, outputs)
            if one.is_contiguous():
                self.slope = rows(count, L * N, outputs, like=one)
            else:
                self.slope = rows(count, outputs, L * N, like=one).transpose(1, 2)
        self.slope.copy_(slope_RLNO.reshape(self.slope.shape))

    def _sweep(self, draws: Sequence[int]) -> None:
        keep_RL = factors([rnn.gradient for rnn in self.rnns], draws, self.size[0])
        if keep_RL is not None:
            self.keep.copy_(keep_RL)
        for sweep, biases in self.sweeps:
            sweep()
            if biases:
                biases[1].copy_(biases[0])

    def _hand_over(self, gradients_RHJ: Tensor) -> None:
        """Copy what past-facing rules found, inputs' and states' weights and bias in a row."""
        inputs, hidden = self.input.shape[3], self.credit.shape[2]
        ih, hh, bias = gradients_RHJ.tensor_split([inputs, inputs + hidden], dim=2)
        found = (ih, hh, *[bias.flatten(1)] * 2)
        for name, gradient in zip(_names(self.rnns[0], 0), found, strict=False):
            self.stack.named[f"rnn.{name}"][1].copy_(gradient)


def _names(rnn: Any, index: int) -> list[str]:
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if rnn.bias else 2]
    return [f"{kind}_l{index}" for kind in kinds]


def fits(module: SequenceModule, num_steps: int) -> bool:
    """Whether a network's gradient can be computed here."""
    rnn, readout = module.rnn, module.readout
    if module.segment_length is not None or module.embedding is not None or readout.bias is None:
        return False
    if rnn.dropout > 0 and rnn.num_layers > 1:
        return False
    if not type(rnn.gradient).__module__.startswith("bptt_lab."):
        return False  # a plug-in may draw from global generators, and replace any method
    if isinstance(rnn.gradient, PastFacing):
        return inherits(type(rnn.gradient), PastFacing, "unroll", "states")
    try:
        factors([rnn.gradient], [0], num_steps)
    except NotImplementedError:
        return False
    return True
