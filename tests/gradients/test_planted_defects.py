"""Strategies broken on purpose: the contract must catch every one, and pass its sound twin."""

import contextlib
from collections.abc import Callable

import pytest
import torch

from bptt_lab.gradients.artbp import ARTBP
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import Unrolled
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.snap1 import SnAp1
from bptt_lab.gradients.stack import Stack
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.gradients.uoro import UORO

from . import contract
from .nets import Net


def scaled(swept, factor):
    return [type(s)(*(None if g is None else g * factor for g in s)) for s in swept]


def num_steps(stack: Stack) -> int:
    return len(stack.layers[0].input)


def at_the_padded_end(stack: Stack) -> Stack:
    return stack._replace(lengths=None, grad_last=stack.grad_ends, grad_ends=None)


def with_delta(stack: Stack, change: Callable, keep: list[float] | None = None) -> list:
    """Full BPTT's sweep, with another delta made from delta and credit."""
    swept = []
    for index in reversed(range(len(stack.layers))):
        layer, q = stack.layers[index], stack.immediate(index, swept[0] if swept else None)
        alone = stack._replace(layers=[layer], grad_output=q, want={"delta", "credit"})
        alone = alone._replace(grad_last=None, grad_ends=None)
        (whole,) = alone.sweep(keep)
        swept.insert(0, stack.from_delta(index, change(whole.delta, whole.credit), whole.credit))
    return swept


class DetachesEveryStep(Full):
    def assign(self, stack):
        return stack.sweep([0.0] * num_steps(stack))


class HandsOnAConstant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output.detach()


class AConstantToTorch(Full):
    def states(self, rnn, input, carry, lengths=None):
        return super().states(rnn, HandsOnAConstant.apply(input), carry, lengths)


class ClaimsASecond(Truncated):
    twice_differentiable = True


class RefusesBriefly(Full):
    twice_differentiable = False

    def __repr__(self):
        return "no\nname"


class ForgetsSlope(Full):
    def assign(self, stack):
        return with_delta(stack, lambda delta, credit: credit)


class WrongLeak(Full):
    def assign(self, stack):
        return stack._replace(cell=stack.cell._replace(leak=1.0)).sweep()


class AveragesOverTime(Full):
    def assign(self, stack):
        return scaled(stack.sweep(), 1 / num_steps(stack))


class AveragesOverBatch(Full):
    def assign(self, stack):
        return scaled(stack.sweep(), 1 / stack.layers[0].input.shape[1])


class SharesCreditOverBatch(Full):
    """Each sequence gets the batch's mean, as an influence averaged over the batch would."""

    def assign(self, stack):
        return with_delta(stack, lambda delta, _: delta.mean(1, keepdim=True).expand_as(delta))


class IgnoresLastState(Full):
    def assign(self, stack):
        return stack._replace(grad_last=None).sweep()


class LeaksFromPadding(Full):
    """Takes the padded end for every sequence's own."""

    def assign(self, stack):
        return at_the_padded_end(stack).sweep()


class TailOfPadding(Truncated):
    """Counts the tail from the padded end."""

    def assign(self, stack):
        return super().assign(at_the_padded_end(stack))


class ZeroesCarriedState(Full):
    def states(self, rnn, input, carry, lengths=None):
        return super().states(rnn, input, carry._replace(hx=0 * carry.hx), lengths)


class AttachedCarry(Full):
    def unroll(self, rnn, input, carry):
        output, h_n, *_ = self.states(rnn, input, carry)
        return output, carry._replace(hx=h_n)


class OneLagTooMany(Truncated):
    def assign(self, stack):
        return Truncated(k=self.k + 1, mode=self.mode).assign(stack)


class OneLagTooFew(Truncated):
    def assign(self, stack):
        return Truncated(k=self.k - 1, mode=self.mode).assign(stack)


class ShiftedChunks(Truncated):
    """Counts chunks from the end."""

    def assign(self, stack):
        T = num_steps(stack)
        return stack.sweep([float((T - t) % self.k > 0) for t in range(T)])


class DropsRaggedTail(Truncated):
    def assign(self, stack):
        T, k = num_steps(stack), self.k
        whole = torch.arange(T)[:, None, None] < T - T % k
        chunks = [float(t % k > 0) for t in range(T)]
        return with_delta(stack, lambda delta, _: delta * whole, chunks)


class LayersCostLag(Truncated):
    """Truncates each layer by itself: passing through a layer starts the count anew."""

    def assign(self, stack):
        swept = []
        for index in reversed(range(len(stack.layers))):
            q = stack.immediate(index, swept[0] if swept else None)
            alone = stack._replace(layers=[stack.layers[index]], grad_output=q)
            swept = [*super().assign(alone._replace(want=stack.wanted(index))), *swept]
        return swept


class Detaching(Autograd):
    """Chunks of 3 by cutting torch's own graph, in time or too late."""

    exact_within_chunk = False

    def mask(self, num_steps):
        return Truncated(k=3).mask(num_steps)


class DetachesInTime(Detaching):
    def states(self, rnn, input, carry, lengths=None):
        outputs, hx = [], carry.hx
        for chunk in input.split(3):
            output, h_n, *_ = super().states(rnn, chunk, carry._replace(hx=hx))
            outputs.append(output)
            hx = h_n.detach()
        return Unrolled(torch.cat(outputs), h_n)


class DetachesTooLate(Detaching):
    """`detach_()` on states that later steps have already used."""

    def states(self, rnn, input, carry, lengths=None):
        outputs, ends = [], [carry.hx]
        for chunk in input.split(3):
            output, h_n, *_ = super().states(rnn, chunk, carry._replace(hx=ends[-1]))
            outputs.append(output)
            ends.append(h_n)
        for h_n in ends[1:]:
            h_n.detach_()
        return Unrolled(torch.cat(outputs), h_n)


class SpoilsItsStates(Full):
    """Works in the stored states' own memory."""

    def assign(self, stack):
        swept = stack.sweep()
        for layer in stack.layers:
            layer.states.data.mul_(0.5)
        return swept


class NotLinear(Full):
    def assign(self, stack):
        return [type(s)(*(None if g is None else g.clamp(-1, 1) for g in s)) for s in stack.sweep()]


class Restless(Full):
    def assign(self, stack):
        self.calls = getattr(self, "calls", 0) + 1
        return scaled(stack.sweep(), 1 + 1e-15 * self.calls * 2)


class ClaimsTooMuch(Truncated):
    exact_within_chunk = True
    exact_across_chunks = True


class ClaimsTooLittle(Full):
    exact_within_chunk = False


class ClaimsNothing(Full):
    unbiased = None


class ReachesTheFuture(Truncated):
    def mask(self, num_steps):
        return super().mask(num_steps) | super().mask(num_steps).T


class ForgetsDropout(Full):
    def assign(self, stack):
        layers = [layer._replace(dropout=None) for layer in stack.layers]
        return stack._replace(layers=layers).sweep()


class AveragesInfluence(RTRL):
    """One influence for all sequences."""

    def advance(self, chunk, influence):
        M, kept = super().advance(chunk, influence)
        return M.mean(0, keepdim=True).expand_as(M).clone(), kept


class ForgetsInfluence(RTRL):
    def advance(self, chunk, influence):
        return None, None


class ForgetsInfluenceWithin(RTRL):
    """Starts every chunk anew in the gradient, though it carries the influence."""

    def gradient(self, chunk, influence, kept, q_LNH):
        return super().gradient(chunk, None, kept, q_LNH)


class SpoilsInfluence(RTRL):
    def gradient(self, chunk, influence, kept, q_LNH):
        result = super().gradient(chunk, influence, kept, q_LNH)
        if influence is not None:
            influence.mul_(0.5)
        return result


class AttachedInfluence(RTRL):
    def unroll(self, rnn, input, carry):
        output, carry = super().unroll(rnn, input, carry)
        return output, carry._replace(influence=carry.influence + 0 * output.sum())


class HiddenMemory(RTRL):
    """Carries what no checkpoint can hold."""

    def advance(self, chunk, influence):
        M, kept = super().advance(chunk, None if influence is None else influence[0])
        return (M, lambda: M), kept

    def gradient(self, chunk, influence, kept, q_LNH):
        return super().gradient(chunk, None if influence is None else influence[0], kept, q_LNH)


class WrongJacobianLeak(RTRL):
    def advance(self, chunk, influence):
        return super().advance(chunk._replace(cell=chunk.cell._replace(leak=1.0)), influence)

    def gradient(self, chunk, influence, kept, q_LNH):
        chunk = chunk._replace(cell=chunk.cell._replace(leak=1.0))
        return super().gradient(chunk, influence, kept, q_LNH)


class TransposedJacobian(RTRL):
    def gradient(self, chunk, influence, kept, q_LNH):
        weights = chunk.weights._replace(hh=chunk.weights.hh.t().contiguous())
        return super().gradient(chunk._replace(weights=weights), influence, kept, q_LNH)


class SilentOnStacks(RTRL):
    def states(self, rnn, input, carry, lengths=None):
        if rnn.num_layers > 1:
            raise ValueError("one layer only")
        return super().states(rnn, input, carry, lengths)


class ClaimsAllChunks(SnAp1):
    exact_across_chunks = True


class ClaimsExact(SnAp1):
    exact_within_chunk = True


class SameSignsForever(UORO):
    """Never moves on to the next draw."""

    def unroll(self, rnn, input, carry):
        output, after = super().unroll(rnn, input, carry)
        return output, after._replace(draw=carry.draw)


class DrawsByHistory(UORO):
    """Signs that depend on how many were drawn before."""

    def states(self, rnn, input, carry, lengths=None):
        self.drawn = getattr(self, "drawn", 0) + 1
        return super().states(rnn, input, carry._replace(draw=self.drawn), lengths)


class Shrinks(UORO):
    def gradient(self, chunk, influence, kept, q_LNH):
        return 0.5 * super().gradient(chunk, influence, kept, q_LNH)


class UnweightedCuts(ARTBP):
    """Cuts at random and does not raise what crosses."""

    def keep(self, uniforms):
        return [float(factor > 0) for factor in super().keep(uniforms)]


def on(net: Net, check: Callable) -> Callable:
    def check_on_net(strategy):
        check(strategy, net)

    check_on_net.__name__ = check.__name__
    return check_on_net


NET, LEAKY, STACK = Net(5, 8), Net(5, 8, leak=0.5), Net(5, 8, num_layers=2)
gradient, credit = contract.check_gradient, contract.check_credit
LAG, CHUNK, TAIL = {"k": 3, "mode": "lag"}, {"k": 3}, {"k": 3, "mode": "tail"}
WINDOW = {"k": 3, "mode": "window"}

PLANTED = [
    # broken, sound twin, settings of both, the check that catches, what it says
    (DetachesEveryStep, Full, {}, on(NET, gradient), "masked oracle"),
    (DetachesEveryStep, Full, {}, on(NET, credit), "credit"),
    (DetachesEveryStep, Full, {}, contract.check_exact_within_chunk, "claims to be exact"),
    (ForgetsSlope, Full, {}, on(NET, gradient), "masked oracle"),
    (WrongLeak, Full, {}, on(LEAKY, gradient), "masked oracle"),
    (WrongLeak, Full, {}, on(LEAKY, credit), "credit"),
    (AveragesOverTime, Full, {}, on(NET, gradient), "masked oracle"),
    (AveragesOverBatch, Full, {}, on(NET, gradient), "masked oracle"),
    (AveragesOverBatch, Full, {}, contract.check_sum_over_batch_and_time, "over the batch"),
    (SharesCreditOverBatch, Full, {}, contract.check_sum_over_batch_and_time, "over the batch"),
    (IgnoresLastState, Full, {}, contract.check_h_n, "h_n"),
    (LeaksFromPadding, Full, {}, contract.check_packed, "packed"),
    (TailOfPadding, Truncated, TAIL, contract.check_packed, "packed"),
    (TailOfPadding, Truncated, WINDOW, contract.check_packed, "packed"),
    (ZeroesCarriedState, Full, {}, on(NET, contract.check_forward), "forward values"),
    (ZeroesCarriedState, Full, {}, contract.check_carry, "not continued"),
    (AttachedCarry, Full, {}, contract.check_carry, "attached"),
    *((OneLagTooMany, Truncated, s, on(NET, gradient), "oracle") for s in (LAG, CHUNK, TAIL)),
    *((OneLagTooFew, Truncated, s, on(NET, gradient), "oracle") for s in (LAG, CHUNK, TAIL)),
    (ShiftedChunks, Truncated, CHUNK, on(NET, gradient), "masked oracle"),
    (DropsRaggedTail, Truncated, CHUNK, on(NET, gradient), "masked oracle"),
    (LayersCostLag, Truncated, LAG, on(STACK, gradient), "masked oracle"),
    (DetachesTooLate, DetachesInTime, {}, on(NET, gradient), "masked oracle"),
    (DetachesTooLate, DetachesInTime, {}, contract.check_exact_within_chunk, "inexact"),
    (SpoilsItsStates, Full, {}, contract.check_accumulates, "kept graph"),
    (NotLinear, Full, {}, contract.check_linear, "linear"),
    (NotLinear, Full, {}, contract.check_sum_over_batch_and_time, "mean and sum"),
    (DetachesEveryStep, Full, {}, contract.check_second_derivative, "another gradient under"),
    (AConstantToTorch, Full, {}, contract.check_second_derivative, "a constant under"),
    (ClaimsASecond, Truncated, CHUNK, contract.check_second_derivative, "another gradient under"),
    (RefusesBriefly, Full, {}, contract.check_second_derivative, "refuses with"),
    (Restless, Full, {}, contract.check_repeatable, "two calls"),
    (ClaimsTooMuch, Truncated, CHUNK, contract.check_exact_within_chunk, "claims to be exact"),
    (ClaimsTooMuch, Truncated, CHUNK, contract.check_exact_across_chunks, "claims to be exact"),
    (ClaimsTooMuch, Truncated, CHUNK, contract.check_mask, "not full"),
    (ClaimsTooLittle, Full, {}, contract.check_exact_within_chunk, "claims to be inexact"),
    (ClaimsNothing, Full, {}, contract.check_claims_are_stated, "not stated"),
    (ReachesTheFuture, Truncated, LAG, contract.check_mask, "future"),
    (ForgetsDropout, Full, {}, contract.check_dropout, "dropout"),
    (AveragesInfluence, RTRL, {}, contract.check_sequences_apart, "sequences mixed"),
    (AveragesInfluence, RTRL, {}, contract.check_exact_across_chunks, "claims to be exact"),
    (ForgetsInfluence, RTRL, {}, contract.check_exact_across_chunks, "claims to be exact"),
    (ForgetsInfluence, RTRL, {"block": 3}, contract.check_exact_across_chunks, "to be exact"),
    (ForgetsInfluenceWithin, RTRL, {}, contract.check_exact_across_chunks, "claims to be exact"),
    (SpoilsInfluence, RTRL, {}, contract.check_influence, "changed in place"),
    (AttachedInfluence, RTRL, {}, contract.check_influence, "attached"),
    (AttachedInfluence, RTRL, {}, contract.check_carry, "attached"),
    (HiddenMemory, RTRL, {}, contract.check_influence, "no plain container"),
    (WrongJacobianLeak, RTRL, {}, on(LEAKY, gradient), "masked oracle"),
    (TransposedJacobian, RTRL, {}, on(NET, gradient), "masked oracle"),
    (SilentOnStacks, RTRL, {}, contract.check_refuses, "names no strategy that can"),
    (ClaimsAllChunks, SnAp1, {}, contract.check_exact_across_chunks, "claims to be exact"),
    (ClaimsExact, SnAp1, {}, contract.check_exact_within_chunk, "claims to be exact"),
    (ClaimsExact, SnAp1, {}, on(NET, gradient), "masked oracle"),
    (SameSignsForever, UORO, {}, contract.check_draws, "after an unroll"),
    (DrawsByHistory, UORO, {}, contract.check_repeatable, "two calls"),
    (Shrinks, UORO, {}, contract.check_unbiased, "claims to be unbiased"),
    (UnweightedCuts, ARTBP, {"mean_length": 3}, contract.check_unbiased, "to be unbiased"),
]


@pytest.mark.parametrize("broken, sound, settings, check, complaint", PLANTED)
def test_contract_catches(broken, sound, settings, check, complaint):
    if check is not contract.check_unbiased:  # which takes seconds; sound ones pass it elsewhere
        with contextlib.suppress(contract.Skipped):  # no mask, no oracle
            check(sound(**settings))
    with pytest.raises(AssertionError, match=complaint):
        check(broken(**settings))
