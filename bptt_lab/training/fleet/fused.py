"""The gradients of many networks at once, each with the bits that it has by itself.

What a network computes alone is computed here by the same operations on the same numbers, and what
they cost beside is paid once: the C core takes all layers in one call, losses and their slopes are
elementwise and so the same in any company, and no graph is recorded. A product is one network's.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core import many
from bptt_lab.core.cell import Cell, Layer, Swept, Weights, slopes
from bptt_lab.gradients.base import Carry
from bptt_lab.gradients.many import factors, inherits
from bptt_lab.gradients.past import Chunk, PastFacing
from bptt_lab.nn.losses import binary_cross_entropy, masked_sum
from bptt_lab.tasks.base import SequenceBatch
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
        self.alike = len({(own.leak, repr(own.gradient)) for own in self.rnns}) == 1
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
        self._together: Any = None  # the latest influences in one tensor, and each network's part
        self._parts: Sequence[Any] = ()
        self.keep = torch.ones(count, L, dtype=torch.float64)
        self.sweeps = [] if self.past else self._sweeps()
        outputs = stack.modules[0].readout.out_features
        self.predicted = like.new_zeros(count, L * N, outputs)
        self.slope = self.predicted  # of the loss, by the prediction
        self.readouts = [
            (module.readout.weight.detach(), module.readout.bias.detach())
            for module in stack.modules
        ]

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

    @torch.no_grad()
    def gradients(self, batches: Sequence[SequenceBatch], draws: Sequence[int]) -> None:
        """Leave each network's gradient of its batch in `.grad`, its sums and its carry with it."""
        self.stack.hand_out()
        known = zip(self._run(batches), draws, strict=True)
        before = [carry._replace(draw=draw) for carry, draw in known]
        totals, ends = self._losses(batches), self._ends()
        if self.past:
            influences = self._influences(before)
        else:
            self._sweep(draws)
        for row, (module, carry) in enumerate(zip(self.stack.modules, before, strict=True)):
            module.latest_sum = totals[row]
            influence, estimate = None, None
            if self.past:
                influence = influences[row]
            else:
                estimate = dict(carry.estimate or {})
            module.carry = Carry(ends[row], influence, carry.draw + 1, estimate, self.stamps[row])

    @torch.no_grad()
    def evaluate(self, batches: Sequence[SequenceBatch]) -> None:
        """Add each batch's sums to those of its network, and leave the carry with it."""
        before, modules = self._run(batches), self.stack.modules
        mask, target, predicted = self._predicted(batches)
        sums = {"count": [batch.mask.sum() for batch in batches]}
        sums["loss"] = self._sums(self._elements(predicted, target), mask)
        scores: dict[str, list[Tensor]] = {}
        with modules[0].trainer.precision_plugin.val_step_context():  # it may divide whole numbers
            known = zip(modules, predicted.chunk(len(modules)), batches, strict=True)
            for module, own, batch in known:  # a task's metric may depend on its data
                for name, elements in module.score(own, batch.target).items():
                    scores.setdefault(name, []).append(masked_sum(elements, batch.mask))
        sums |= scores
        ends = self._ends()
        for row, (module, carry) in enumerate(zip(modules, before, strict=True)):
            module.add_sums({name: each[row] for name, each in sums.items()})
            estimate = None if self.past else dict(carry.estimate or {})
            module.carry = Carry(ends[row], None, carry.draw + 1, estimate)

    def _run(self, batches: Sequence[SequenceBatch]) -> list[Carry]:
        """Unroll all layers, and return what there was before."""
        torch.stack([batch.input for batch in batches], out=self.input)
        before = [
            module.carry_before(batch)
            for module, batch in zip(self.stack.modules, batches, strict=True)
        ]
        for index, (layer, unroll) in enumerate(zip(self.layers, self.unrolls, strict=True)):
            layer.states[:, 0].copy_(torch.stack([carry.hx[index] for carry in before]))
            unroll()
        return before

    def _ends(self) -> Sequence[Tensor]:
        return torch.stack([layer.states[:, -1] for layer in self.layers], 1).unbind()

    def _predicted(self, batches: Sequence[SequenceBatch]) -> tuple[Tensor, Tensor, Tensor]:
        """Masks (R, L, N), targets and predictions, R networks' chunks one after another."""
        for row, (weight, bias) in enumerate(self.readouts):
            torch.addmm(bias, self.output[row], weight.t(), out=self.predicted[row])
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

    def _losses(self, batches: Sequence[SequenceBatch]) -> list[Tensor]:
        """Fill in the credit of the last layer and the readouts' gradients; return the sums."""
        (L, _), count, modules = self.size, len(batches), self.stack.modules
        mask, target, predicted = self._predicted(batches)
        shares = [module.share or 1.0 for module in modules]
        seeds = predicted.new_ones(count) / predicted.new_tensor(shares)
        with torch.enable_grad():
            predicted = predicted.detach().requires_grad_()
            elements = self._elements(predicted, target)
            seed = torch.where(mask, seeds[:, None, None], seeds.new_zeros(()))
            (slope,) = torch.autograd.grad(elements, predicted, seed.view(elements.shape))
        self._keep_slope(slope.view(count, L, *slope.shape[1:]))
        weights, biases = (self.stack.named[f"readout.{name}"][1] for name in ("weight", "bias"))
        for row, (weight, _) in enumerate(self.readouts):
            slope = self.slope[row]
            torch.mm(slope, weight, out=self.credit[row])
            torch.mm(slope.t(), self.output[row], out=weights[row])
            torch.sum(slope, 0, out=biases[row])
        return self._sums(elements, mask)

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

    def _influences(self, before: Sequence[Carry]) -> Sequence[Any]:
        """Fill in what past-facing rules find, and return their influences for the next chunks."""
        rule: Any = self.rnns[0].gradient
        layer, cell = self.layers[0], Cell(self.phi, self.leaks[0])
        known = self._stacked(before)
        if self.alike and known is not NotImplemented:
            states = layer.states.contiguous()
            values = states[:, 1:] if cell.leak == 1 else layer.values.contiguous()
            hh = layer.weights.hh[:, None, None]
            chunk = Chunk(
                layer.input,
                states,
                layer.weights._replace(hh=hh),
                cell,
                values,
                slopes(values, cell),
            )
            q = self.credit.view(len(before), *self.size, -1)
            with suppress(NotImplementedError):
                self._together, gradients = rule.together(chunk, known, q)
                self._hand_over(gradients)
                self._parts = self._together.unbind()
                return self._parts
        influences, gradients = zip(*map(self._influence, range(len(before)), before), strict=True)
        self._hand_over(torch.stack(gradients))
        return influences

    def _stacked(self, before: Sequence[Carry]) -> Any:
        """The influences of all networks in one tensor: that of the last step, if these are it."""
        parts = [carry.influence for carry in before]
        if all(part is None for part in parts):
            return None
        if all(part is own for part, own in zip(parts, self._parts, strict=False)) and self._parts:
            return self._together
        if all(isinstance(part, Tensor) for part in parts):
            return torch.stack(parts)
        return NotImplemented

    def _influence(self, row: int, carry: Carry) -> tuple[Any, Tensor]:
        """What one rule does alone, on a chunk that keeps no buffer of ours."""
        rnn, layer = self.rnns[row], self.layers[0]
        states, input = layer.states[row].clone(), layer.input[row].clone()
        values = states[1:] if rnn.leak == 1 else layer.values[row].clone()
        cell = Cell(rnn.nonlinearity, rnn.leak)
        weights = Weights(*(weight[row] for weight in layer.weights if weight is not None))
        chunk = Chunk(input, states, weights, cell, values, slopes(values, cell), carry.draw)
        rule: Any = rnn.gradient
        influence, kept = rule.advance(chunk, carry.influence)
        q_LNH = self.credit[row].view_as(chunk.states[1:])
        return influence, rule.gradient(chunk, carry.influence, kept, q_LNH)

    def _hand_over(self, gradients_RHJ: Tensor) -> None:
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
        return inherits(rnn.gradient, PastFacing, "unroll", "states")
    try:
        factors([rnn.gradient], [0], num_steps)
    except NotImplementedError:
        return False
    return True
