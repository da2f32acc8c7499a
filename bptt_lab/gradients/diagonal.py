"""Influence that never leaves its unit: what rules share whose Jacobian is diagonal.

    (1) e_t = d_t * e_{t-1} + slope_t xhat_t^T      influence of unit i's own parameters, (N, H, J)
    (2) dE/dtheta = sum_t q_t * e_t
    (3) c_t = q_t + d_{t+1} * c_{t+1}
    (4) dE/dtheta = sum_t (slope_t * c_t) xhat_t^T + (d_1 * c_1) * e_0

A rule chooses d (L, N, H), the diagonal that stands for J_t; slope_t is leak phi'(a_t), xhat_t is
`Chunk.extended`. Eq. (4) is Eq. (2) with the sums exchanged: a scan of vectors and one product
instead of a matrix a step, so that only the influence at the chunk's boundaries is ever formed.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from bptt_lab.gradients.base import Carry, RecurrentNet
from bptt_lab.gradients.past import Chunk, PastFacing

CHECK_EVERY = 16  # steps
FLUSH_EVERY = 4


class Diagonal(PastFacing):
    """A strategy with a diagonal in place of the recurrent Jacobian."""

    alike: bool = True  # what is fed back depends neither on settings nor on other units

    @abstractmethod
    def decay(self, chunk: Chunk) -> Tensor:
        """Return d, (L, N, H)."""

    @abstractmethod
    def fed_back(self, q_LNH: Tensor) -> Tensor:
        """Return what takes the place of q_t, (L, N, H)."""

    def together(self, chunk: Chunk, influence: Any, q: Tensor) -> tuple[Any, Tensor]:
        """Eq. (1) and (4) for chunks of one step, see PastFacing."""
        if chunk.slope.shape[1] > 1 or not self.alike:
            return super().together(chunk, influence, q)
        states = chunk.states[:, :-1]
        parts = [chunk.input, states]
        if chunk.weights.bias_ih is not None:
            parts.append(torch.ones_like(chunk.input[..., :1]))
        extended_RNJ, slope_RNH = torch.cat(parts, -1)[:, 0], chunk.slope[:, 0]
        after = slope_RNH[..., None] * extended_RNJ[:, :, None]
        credit_RNH, decay_RNH = self.fed_back(q)[:, 0], self.decay(chunk)[:, 0]
        delta_RNH = credit_RNH * slope_RNH
        total = torch.stack([d.t() @ x for d, x in zip(delta_RNH, extended_RNJ, strict=True)])
        if influence is not None:
            after.addcmul_(decay_RNH[..., None], influence)
            total += ((decay_RNH * credit_RNH)[..., None] * influence).sum(1)
        return after, total

    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Eq. (1) over the whole chunk as one product over time."""
        decay_LNH, extended_LNJ = kept = self.decay(chunk), chunk.extended
        # What is left of step t at the end, d_L ... d_{t+1}, from the last step to the first.
        left_NH = torch.ones_like(decay_LNH[0])
        rows, decays = [left_NH], decay_LNH.unbind(0)
        for steps, decay_NH in enumerate(reversed(decays[1:]), 1):
            left_NH = _normal(left_NH * decay_NH)
            rows.append(left_NH)
            if steps % CHECK_EVERY == 0 and not left_NH.any():
                break
        reached = len(rows)
        weight_LNH = torch.stack(rows[::-1]).mul_(chunk.slope[-reached:])
        if reached == 1:  # the same numbers, without a library's preparations
            after = weight_LNH[0][..., None] * extended_LNJ[-1][:, None]
        else:
            after = weight_LNH.permute(1, 2, 0) @ extended_LNJ[-reached:].transpose(0, 1)
        if influence is not None and reached == len(decays):
            after.addcmul_((left_NH * decays[0])[..., None], influence)
        return after, kept

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (4)."""
        decay_LNH, extended_LNJ = kept
        credit_LNH = scan(decay_LNH, self.fed_back(q_LNH))
        at_start_NH = decay_LNH[0] * credit_LNH[0]
        delta_LNH = credit_LNH.mul_(chunk.slope)
        total_HJ: Tensor = delta_LNH.flatten(0, 1).t() @ extended_LNJ.flatten(0, 1)
        if influence is None:
            return total_HJ
        return total_HJ.add_((at_start_NH[..., None] * influence).sum(0))

    def matrix(self, influence: Any) -> Tensor:
        """Return e_t as each unit's influence on itself; see PastFacing."""
        return torch.diag_embed(influence.transpose(1, 2)).permute(0, 2, 3, 1)

    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return the credit of Eq. (3); see GradientStrategy."""
        return scan(self.decay(self.observe(rnn, input, hx, after)), self.fed_back(q))[None]


def _normal(tensor: Tensor) -> Tensor:
    """Zero for what products would soon make subnormal, which is very slow to compute with."""
    return torch.hardshrink(tensor, torch.finfo(tensor.dtype).tiny * 2**24)


def scan(decay_LNH: Tensor, q_LNH: Tensor) -> Tensor:
    """Eq. (3), (L, N, H)."""
    credit_LNH = torch.empty_like(q_LNH, memory_format=torch.contiguous_format)
    c_NH = credit_LNH[-1].copy_(q_LNH[-1])
    rows = zip(q_LNH[:-1], decay_LNH[1:], credit_LNH[:-1], strict=True)
    for steps, (q_NH, decay_NH, here_NH) in enumerate(reversed(list(rows)), 1):
        c_NH = torch.addcmul(q_NH, decay_NH, c_NH, out=here_NH)
        if steps % FLUSH_EVERY == 0:
            c_NH.copy_(_normal(c_NH))
    return credit_LNH
