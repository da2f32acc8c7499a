"""Strategies as outsiders write them: sound ones, and for each way to break the contract one."""

import torch

from bptt_lab.gradients.artbp import ARTBP
from bptt_lab.gradients.future import FutureFacing, OneSweep
from bptt_lab.gradients.influence import recur, swept
from bptt_lab.gradients.kf_rtrl import KFRTRL
from bptt_lab.gradients.past import PastFacing
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.gradients.uoro import UORO


class Good(FutureFacing):
    exact_within_chunk = True
    exact_across_chunks = False
    unbiased = True
    cost = "O(L N H^2)"
    space = "O(L N H)"

    def assign(self, stack):
        return stack.sweep()


class GoodOnline(PastFacing):
    exact_within_chunk = True
    exact_across_chunks = True
    unbiased = True
    cost = "O(L N H^4)"
    space = "O(N H^3)"

    def advance(self, chunk, influence):
        return recur(chunk, influence), None

    def gradient(self, chunk, influence, kept, q_LNH):
        return swept(chunk, influence, q_LNH)


class Fades(OneSweep):
    """Its mask has weights."""

    cost = "O(L N H^2)"
    space = "O(L N H)"

    def factors(self, num_steps, draw):
        return [0.5] * num_steps

    def mask(self, num_steps):
        step = torch.arange(num_steps, dtype=torch.float64)
        return (0.5 ** (step[:, None] - step)).tril()


class LayersApart(FutureFacing):
    """Full BPTT for one layer; of several, those below the last one learn half as fast."""

    cost = "O(L N H^2)"
    space = "O(L N H)"

    def assign(self, stack):
        *below, last = stack.sweep()
        return [*scaled(below, 0.5), last]


class RoundsWeights(Fades):
    def mask(self, num_steps):
        return super().mask(num_steps).float()


class WeighsOneStepOff(Fades):
    def mask(self, num_steps):
        return 0.5 * super().mask(num_steps)


def scaled(swept, factor):
    return [type(s)(*(None if g is None else g * factor for g in s)) for s in swept]


class CutsEveryStep(Good):
    def assign(self, stack):
        return stack.sweep([0.0] * len(stack.layers[0].input))


class ForgetsLeak(Good):
    def assign(self, stack):
        return stack._replace(cell=stack.cell._replace(leak=1.0)).sweep()


class ForgetsDropout(Good):
    def assign(self, stack):
        layers = [layer._replace(dropout=None) for layer in stack.layers]
        return stack._replace(layers=layers).sweep()


class ClaimsAllChunks(Good):
    exact_across_chunks = True


class ClaimsNothing(Good):
    unbiased = None
    cost = "cheap"


class ClaimsNotToBeLinear(Good):
    linear = False


class Raises(Good):
    def assign(self, stack):
        raise KeyError("weight_hh")


class AssertsInVain(Good):
    def mask(self, num_steps):
        raise AssertionError("no mask today")


class ForgetsInfluence(GoodOnline):
    def advance(self, chunk, influence):
        return None, None


class AveragesOverBatch(GoodOnline):
    def advance(self, chunk, influence):
        M = recur(chunk, influence)
        return M.mean(0, keepdim=True).expand_as(M).clone(), None


class SpoilsInfluence(GoodOnline):
    def gradient(self, chunk, influence, kept, q_LNH):
        found = swept(chunk, influence, q_LNH)
        if influence is not None:
            influence.zero_()
        return found


class RefusesWithoutAWayOut(GoodOnline):
    def states(self, rnn, input, carry, lengths=None):
        if rnn.num_layers > 1:
            raise ValueError("one layer only")
        return super().states(rnn, input, carry, lengths)


class TruncatedClaimsUnbiased(Truncated):
    """Deterministic, biased, and says that it is not."""

    unbiased = True


class ScaledUORO(UORO):
    """Off by a factor, and by its own noise times another."""

    def __init__(self, factor=1.0, noise=0.0, seed=0):
        super().__init__(seed=seed)
        self.factor, self.noise = factor, noise

    def gradient(self, chunk, influence, kept, q_LNH):
        found = super().gradient(chunk, influence, kept, q_LNH)
        if self.noise:
            found = found + self.noise * (found - swept(chunk, influence, q_LNH)).abs()
        return self.factor * found


class ScaledKFRTRL(KFRTRL):
    def __init__(self, factor, seed=0):
        super().__init__(seed=seed)
        self.factor = factor

    def gradient(self, chunk, influence, kept, q_LNH):
        return self.factor * super().gradient(chunk, influence, kept, q_LNH)


class ScaledARTBP(ARTBP):
    def __init__(self, factor, seed=0):
        super().__init__(seed=seed)
        self.factor = factor

    def begin(self, num_steps, draw, estimate):
        rule = super().begin(num_steps, draw, estimate)
        return lambda stack: scaled(rule(stack), self.factor)


with_settings = Truncated(k=4, mode="lag")
