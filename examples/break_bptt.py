"""Break backpropagation through time, and watch the oracle say which terms are wrong.

python examples/break_bptt.py [FOLDER FOR FIGURES]
"""

# %% [markdown]
# A wrong gradient rarely crashes: the loss still falls, only less. So bptt_lab keeps a slow oracle
# that knows every term q_t J_t ... J_{s+1} Mbar_s by itself. A truncation is a mask over these
# terms, and any sweep can be held against it, loss by loss and use by use.

# %%
import sys
from pathlib import Path

import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bptt_lab import VanillaRNN
from bptt_lab.gradients import Truncated
from bptt_lab.gradients.oracle import masked_gradient, terms
from bptt_lab.training import style

torch.set_num_threads(1)
torch.manual_seed(1)
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures"
folder.mkdir(parents=True, exist_ok=True)

T, K, H = 12, 4, 5
rnn = VanillaRNN(2, H, dtype=torch.float64)
torch.nn.init.orthogonal_(rnn.weight_hh_l0.data, 1.3)
x, target, h_0 = (torch.randn(shape).double() for shape in ((T, 1, 2), (T, 1, H), (1, 1, H)))
W, mask = rnn.weight_hh_l0.detach(), Truncated(k=K, mode="chunk").mask(T)
G = terms(rnn, x, lambda output: 0.5 * (output - target).square().sum(), h_0)["weight_hh_l0"]


# %% [markdown]
# BPTT by hand in a dozen lines, cut every K steps. Each argument is a way to get it wrong: phi'
# forgotten, the cut one step off, or the *state* reset where only the credit should be cut. Sent
# back from one loss at a time, it shows its own term for every pair (t, s).


# %%
def by_hand(*, slope: bool = True, cut: int = 0, reset: bool = False) -> torch.Tensor:
    """Return the terms (T, T, H, H) of dE/dW_hh that a hand-written sweep adds up."""
    h, U, b = [h_0[0, 0]], rnn.weight_ih_l0, rnn.bias_ih_l0 + rnn.bias_hh_l0
    for s in range(T):
        h[s] = 0 * h[s] if reset and s % K == 0 else h[s]
        h.append(torch.tanh(U @ x[s, 0] + W @ h[s] + b).detach())
    found = torch.zeros(T, T, H, H).double()
    for t in range(T):
        credit = h[t + 1] - target[t, 0]
        for s in range(t, -1, -1):
            delta = credit * (1 - h[s + 1].square() if slope else 1)
            found[t, s] = torch.outer(delta, h[s])
            credit = W.t() @ delta * ((s - cut) % K != 0)
    return found


# %% [markdown]
# The contract in one line: as a sum, the terms must equal what the oracle's mask leaves.

# %%
versions = {
    "correct": by_hand(),
    "phi' forgotten": by_hand(slope=False),
    "cut one step off": by_hand(cut=1),
    "state reset too": by_hand(reset=True),
}
expected = masked_gradient({"weight_hh_l0": G}, mask)["weight_hh_l0"]
CELLS = {  # Okabe and Ito's colours, and a mark, by which all readers tell what is wrong
    "rightly cut": ("#E6E6E6", ""),
    "right": ("#56B4E9", ""),
    "wrong value": (style.VERMILION, "x"),
    "missing": ("#E69F00", "o"),
    "should be cut": (style.PURPLE, "+"),
}
colours = ListedColormap([colour for colour, _ in CELLS.values()])
figure = Figure(figsize=(style.ACROSS, 6), layout="constrained")
for axes, (name, found) in zip(figure.subplots(2, 2).flat, versions.items(), strict=True):
    error = float((found.sum((0, 1)) - expected).norm() / expected.norm())
    print(f"{name:18} relative error {error:8.1e}  {'passes' if error < 1e-10 else 'CAUGHT'}")
    size, there = found.flatten(2).norm(dim=2), found.flatten(2).any(2)
    wrong = (found - G).flatten(2).norm(dim=2) > 1e-10 * size
    state = torch.where(mask, torch.where(wrong, 2, 1), 4 * there.int())
    state[mask & ~there & G.flatten(2).any(2)] = 3
    shown = state.double().masked_fill(torch.ones(T, T).triu(1).bool(), torch.nan)
    axes.imshow(shown, colours, vmin=-0.5, vmax=4.5, extent=(1, 13, 13, 1))
    for number, (_, mark) in enumerate(CELLS.values()):
        t, s = (shown == number).nonzero(as_tuple=True)
        axes.plot(s + 1.5, t + 1.5, marker=mark, color="black", markersize=4, linestyle="")
    axes.set_title(f"{name}\nrelative error {error:.1f}")
    axes.set(xlabel="use at step s", ylabel="loss at step t")
    axes.set(xticks=[1.5, 4.5, 8.5, 12.5], yticks=[1.5, 4.5, 8.5, 12.5])
    axes.set(xticklabels=[1, 4, 8, 12], yticklabels=[1, 4, 8, 12])
    axes.hlines(range(1, 14), 1, 13, color="white", linewidth=0.8)
    axes.vlines(range(1, 14), 1, 13, color="white", linewidth=0.8)
    axes.spines[:].set_visible(False)
keys = [
    (Patch(color=colour), Line2D([], [], marker=mark, color="black", markersize=4, linestyle=""))
    for colour, mark in CELLS.values()
]
figure.legend(keys, [*CELLS], loc="outside lower center", ncols=3, frameon=False)
figure.savefig(folder / "broken_bptt.png", dpi=150)
