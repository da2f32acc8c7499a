"""Biased rules: each drops or changes one path of credit, and nothing else.

The same path is dropped or changed in a loop under torch's own graph, by detaching or a hook.
Full BPTT's gradient must be another one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bptt_lab.commands.reproduce.nets import difference, exact, gradient, net, normal
from bptt_lab.commands.reproduce.topics import Claim, Result, Trial, claim, greatest
from bptt_lab.core.cell import NONLINEARITIES
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.credit_clip import CreditClip
from bptt_lab.gradients.feedback_alignment import FeedbackAlignment
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rflo import RFLO
from bptt_lab.gradients.snap1 import SnAp1
from bptt_lab.nn.rnn import VanillaRNN

# What a layer's states, its W_hh and its number give to the next step.
Through = Callable[[Tensor, Tensor, int], Tensor]

NETS = [("tanh", 1.0), ("tanh", 0.4), ("sigmoid", 0.7), ("relu", 1.0)]  # phi and leak
CLIP = 2.0


def _recurrent(h: Tensor, weight_hh: Tensor, layer: int) -> Tensor:
    return h @ weight_hh.t()


def looped(
    rnn: VanillaRNN,
    input: Tensor,
    q: Tensor,
    through: Through,
    hold: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Gradient of sum(q * output) of a loop: credit passes by `through` and the leak.

    Where there is a `hold`, it changes the credit of every state.
    """
    x, phi = input, NONLINEARITIES[rnn.nonlinearity].apply
    for layer, (weight_ih, weight_hh, *biases) in enumerate(rnn.all_weights):
        h, states = x.new_zeros(x.shape[1], rnn.hidden_size), []
        for x_t in x:
            a = x_t @ weight_ih.t() + through(h, weight_hh, layer) + sum(biases)
            h = (1 - rnn.leak) * h + rnn.leak * phi(a)
            if hold:
                h.register_hook(hold)  # type: ignore[no-untyped-call]
            states.append(h)
        x = torch.stack(states)
    gradients = torch.autograd.grad((x * q).sum(), [*rnn.parameters()])
    return torch.cat([g.flatten() for g in gradients])


def _same(
    name: str,
    source: str,
    expected: str,
    make: Callable[[], GradientStrategy],
    through: Through = _recurrent,
    *,
    layers: int = 1,
    hold: Callable[[Tensor], Tensor] | None = None,
) -> Claim:
    """Claim that a strategy's gradient is that of a loop; one that carries is given two chunks."""

    @claim("derived", source, f"{expected}, to 1e-12", name=name, tested_on=range(10, 13))
    def measure(trial: Trial) -> Result:
        worst, from_full = 0.0, 1.0
        for seed in trial.seeds:
            for number, (phi, leak) in enumerate(NETS):
                strategy = make()
                depth = min(layers, 1 + number % 2)
                rnn = net(strategy, seed, (3, 8, depth), gain=1.4, leak=leak, nonlinearity=phi)
                input, q = normal(seed, 12, 2, 3), normal(100 + seed, 12, 2, 8)
                right = looped(rnn, input, q, through, hold)
                found = gradient(rnn, input, q, 2 if strategy.carries_influence else 1)
                worst = greatest(worst, difference(found, right))
                from_full = min(from_full, difference(exact(rnn, input, q), found))
        said = f"off by {worst:.0e}; from full BPTT by {from_full:.2f} at least"
        return Result(worst < 1e-12 and from_full > 0.05, said)

    return measure


def _clipped(credit: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(credit, dim=1, keepdim=True)
    return credit * (CLIP / norm).clamp(max=1)


def _diagonal(h: Tensor, weight_hh: Tensor, layer: int) -> Tensor:
    own = weight_hh.diagonal()
    return h * own + h.detach() @ (weight_hh - own.diag()).t()


def _feedback(h: Tensor, weight_hh: Tensor, layer: int) -> Tensor:
    B = FeedbackAlignment(of=Full(), seed=1).feedback(layer, weight_hh.detach())
    return h.detach() @ weight_hh.t() + (h - h.detach()) @ B.t()


CLAIMS = [
    _same("snap1", "Menick et al. 2021", "credit by diag(W_hh) and leak", SnAp1, _diagonal),
    _same(
        "rflo", "Murray 2019", "credit by the leak alone", RFLO, lambda h, w, _: h.detach() @ w.t()
    ),
    _same(
        "feedback_alignment",
        "Lillicrap et al. 2016",
        "credit by B for W_hh^T",
        lambda: FeedbackAlignment(of=Full(), seed=1),
        _feedback,
        layers=2,
    ),
    _same(
        "credit_clip",
        "Graves 2013",
        f"|dE/dh_t| held at {CLIP:g}",
        lambda: CreditClip(of=Full(), clip=CLIP),
        layers=2,
        hold=_clipped,
    ),
]
