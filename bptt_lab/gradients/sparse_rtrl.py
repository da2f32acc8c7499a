"""Sparse RTRL: influence passes between units through a few random entries of the Jacobian."""

from functools import lru_cache
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from bptt_lab.core import recurrence
from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, Gt, checked
from bptt_lab.gradients.base import Carry, RecurrentNet
from bptt_lab.gradients.influence import as_matrix, layer_of, own_part, recur, refuse_size, swept
from bptt_lab.gradients.past import Chunk, PastFacing

FEW = 32  # entries a row


class SparseRTRL(PastFacing):
    """RTRL with k random entries of each row of the recurrent Jacobian, and its diagonal.

    k = 0 is SnAp-1 and k = H is RTRL. The entries are drawn once; a larger k adds to those of a
    smaller one. Do not use it where a chunk holds what is to be learnt: full is exact for less.

    Cost: 2 N H^2 (k + 1) (H + I + 1) flops a step; space N H^2 (H + I + 1), as rtrl's. rtrl takes
    these times as long a step, in chunks of one step, with k = 1, 4, 8, 16, 32 (I = 1, float32,
    one thread of an AMD EPYC with AVX2, medians of pairs): H = 32 1.4, 1.3, 1.2, .9, .8; H = 64
    3.9, 3.9, 2.0, 1.9, 1.0; H = 128 3.8, 3.2, 2.2, 1.6, .9; H = 256 5.6, 3.9, 2.4, 1.4, .9. So
    rtrl, which is exact, is as cheap at H = 16 with any k, and anywhere from about k = 32 on: the
    rows that a sum has come from memory each time, not from a cache.

        (1) M_t = (J_t * mask) M_{t-1} + Mbar_t
        (2) dE/dtheta = sum_t q_t M_t = sum_t c_t Mbar_t + c_0 M_0
        (3) c_t = q_t + (J_{t+1} * mask)^T c_{t+1}

    mask is 1 on the diagonal and at the first k columns of each row's own random permutation. As
    in rtrl, a chunk's gradient is one adjoint sweep, and c_0 meets the influence carried in.

    Args:
        k: random entries a row; the diagonal may be one of them.
        seed: of the permutations.
        memory_limit_gib: largest influence allowed, GiB.

    Raises:
        ConfigError: where a setting lies outside these limits, for a network whose influence is
            too large, and as PastFacing does.

    Examples:
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import SparseRTRL
        >>> rnn = VanillaRNN(3, 5, gradient=SparseRTRL(k=2))
    """

    influence = "hidden_size * hidden_size * hidden_size"  # its numbers of a sequence, at least
    cost: ClassVar[str] = "O(L N H^2 k (H+I))"
    space: ClassVar[str] = "O(N H^2 (H+I))"

    @checked
    def __init__(
        self,
        *,
        k: Annotated[int, Ge(0)] = 4,
        seed: int = 0,
        memory_limit_gib: Annotated[float, Gt(0)] = 4.0,
    ) -> None:
        self.k = k
        self.seed = seed
        self.memory_limit_gib = memory_limit_gib

    def __repr__(self) -> str:
        return f"SparseRTRL(k={self.k}, seed={self.seed})"

    def pattern(self, hidden_size: int) -> Tensor:
        """Return the mask, (H, H) booleans."""
        own = torch.eye(hidden_size, dtype=torch.bool)
        return own.scatter_(1, _columns(self.seed, hidden_size, self.k), True)

    def advance(self, chunk: Chunk, influence: Any) -> tuple[Any, Any]:
        """Eq. (1)."""
        refuse_size(chunk, self.memory_limit_gib)
        hidden_size = chunk.slope.shape[-1]
        if gathers(self.k, hidden_size):
            return _recur(chunk, influence, _columns(self.seed, hidden_size, self.k)), None
        return recur(self._masked(chunk), influence), None

    def gradient(self, chunk: Chunk, influence: Any, kept: Any, q_LNH: Tensor) -> Tensor:
        """Eq. (2)."""
        return swept(self._masked(chunk), influence, q_LNH)

    def matrix(self, influence: Any) -> Tensor:
        """Return what is carried; see PastFacing."""
        return as_matrix(influence)

    def credit(
        self, rnn: RecurrentNet, input: Tensor, hx: Tensor, q: Tensor, *, after: Carry | None = None
    ) -> Tensor:
        """Return the credit of Eq. (3); see GradientStrategy."""
        chunk = self._masked(self.observe(rnn, input, hx, after))
        credit = recurrence.sweep(q, layer_of(chunk), chunk.cell, {"credit"}).credit
        assert credit is not None
        return credit[None]

    def _masked(self, chunk: Chunk) -> Chunk:
        """The chunk with W_hh * mask for W_hh, whose Jacobians are J_t * mask."""
        mask = self.pattern(chunk.slope.shape[-1]).to(chunk.slope)
        return chunk._replace(weights=chunk.weights._replace(hh=chunk.weights.hh * mask))


def gathers(k: int, hidden_size: int) -> bool:
    """Whether weighted sums of rows take less time than a dense product with zeros in it."""
    return k < min(FEW, hidden_size // 2)


@lru_cache(maxsize=64)
def _columns(seed: int, hidden_size: int, k: int) -> Tensor:
    """The columns of each row that the mask keeps, the diagonal first: (H, 1 + k) or less."""
    random = generator(seed, "sparse_rtrl", hidden_size)
    drawn = torch.rand(hidden_size, hidden_size, generator=random, dtype=torch.float64).argsort(1)
    return torch.cat([torch.arange(hidden_size)[:, None], drawn[:, :k]], 1)


def _recur(chunk: Chunk, influence: Tensor | None, columns_HK: Tensor) -> Tensor:
    """Eq. (1) over a chunk: a row of M is a weighted sum of K rows of the M before."""
    batch_size, hidden_size = chunk.slope[0].shape
    columns_HK = columns_HK.to(chunk.slope.device)
    W_HK = chunk.weights.hh.gather(1, columns_HK)
    W_HK[:, 1:].masked_fill_(columns_HK[:, 1:] == columns_HK[:, :1], 0)  # the diagonal counts once
    entries_LNHK = chunk.slope[..., None] * W_HK
    entries_LNHK[..., 0] += 1 - chunk.cell.leak
    firsts_N11 = torch.arange(batch_size, device=columns_HK.device)[:, None, None] * hidden_size
    rows_PK = (firsts_N11 + columns_HK).flatten(0, 1)
    extended_LNJ, M = chunk.extended, influence
    for slope_NH, extended_NJ, entries_NHK in zip(
        chunk.slope, extended_LNJ, entries_LNHK, strict=True
    ):
        if M is None:
            columns = hidden_size * extended_NJ.shape[-1]
            M = slope_NH.new_zeros(batch_size, hidden_size, columns)
        else:
            weights_PK = entries_NHK.flatten(0, 1)
            M = embedding_bag(
                rows_PK, M.flatten(0, 1), mode="sum", per_sample_weights=weights_PK
            ).view_as(M)
        own_part(M).addcmul_(slope_NH[..., None], extended_NJ[:, None])
    assert M is not None
    return M
