"""See a gradient vanish, stay and explode: credit by lag in three networks.

python examples/see_a_gradient_vanish.py [FOLDER FOR FIGURES]
"""

# %% [markdown]
# The credit that the loss at step t gives to the state d steps earlier is
#
#     dE_t/dh_{t-d} = q_t J_t J_{t-1} ... J_{t-d+1},    J_t = diag(phi'(a_t)) W_hh
#
# a product of d matrices. A product of many matrices shrinks or grows like a power, unless somebody
# arranges that it does not. The exponent is the network's largest Lyapunov exponent.

# %%
import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from bptt_lab import VanillaRNN
from bptt_lab.diagnostics import credit_flow, lyapunov_spectrum
from bptt_lab.training import style

torch.set_num_threads(1)
HIDDEN, STEPS, BATCH = 128, 200, 8
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures"
folder.mkdir(parents=True, exist_ok=True)


# %% [markdown]
# Three networks, which differ in W_hh and phi alone. An orthogonal matrix only rotates, and the
# identity for phi only passes on, so nothing can be lost. Random entries of standard deviation
# gain/sqrt(H) have a spectral radius near `gain`; tanh then takes a little away.


# %%
def network(kind: str) -> VanillaRNN:
    """Return a network in double precision, its recurrent weights as `kind` says."""
    torch.manual_seed(0)
    phi = "identity" if kind == "orthogonal, linear" else "tanh"
    rnn = VanillaRNN(1, HIDDEN, nonlinearity=phi, bias=False, dtype=torch.float64)
    weight = rnn.weight_hh_l0.data
    if kind == "orthogonal, linear":
        torch.nn.init.orthogonal_(weight)
    else:
        gain = 0.5 if kind == "gain 0.5, tanh" else 2.0
        weight.normal_(0, gain / math.sqrt(HIDDEN))
    return rnn


# %% [markdown]
# `credit_flow` measures |dE_t/dh_s| for all pairs of steps. It renormalises the vectors as they
# travel: what is called vanished has vanished, and did not merely underflow. Only the last step has
# a loss here, so there is one curve a network, and its slope is a matter of counting decades.

# %%
COLOURS = {
    "gain 2, tanh": style.VERMILION,
    "orthogonal, linear": style.GREEN,
    "gain 0.5, tanh": style.BLUE,
}
figure = Figure(figsize=(style.ACROSS, 3.4), layout="constrained")
axes = figure.subplots()
lags = torch.arange(STEPS, dtype=torch.float64)
print(f"{'network':20} {'decades a step':>16} {'Lyapunov exponent / ln 10':>27}")
for kind, colour in COLOURS.items():
    rnn = network(kind)
    x = torch.randn(STEPS, BATCH, 1, dtype=torch.float64)
    readout = torch.randn(HIDDEN, dtype=torch.float64) / math.sqrt(HIDDEN)

    by_lag = credit_flow(rnn, x, lambda output, v=readout: (output[-1] @ v).sum()).by_lag[0]
    centred = lags - lags.mean()
    slope = float((centred * by_lag).sum() / centred.square().sum())
    exponent = float(lyapunov_spectrum(rnn, x, burn_in=20)[:, 0].mean()) / math.log(10)
    print(f"{kind:20} {slope:16.2e} {exponent:27.2e}")

    axes.plot(lags, by_lag, color=colour, linewidth=2.2)
    end, shift = (STEPS - 1, by_lag[-1]), {"textcoords": "offset points", "va": "center"}
    axes.annotate(kind, end, (8, 0), color=style.readable(colour), annotation_clip=False, **shift)

# %% [markdown]
# The straight lines are the whole story of "vanishing and exploding gradients". A truncation at k
# loses little on the blue line, much on the green one, and on the red one it cuts off the part that
# is largest.

# %%
axes.set_xlabel("lag d, steps back from the loss")
axes.set_ylabel("credit, log10 of |dE_T / dh_(T-d)|")
axes.set_title("Credit by lag", loc="left", fontweight="bold")
axes.set(xlim=(0, STEPS), xticks=range(0, STEPS + 1, 50))
axes.spines[["top", "right"]].set_visible(False)
axes.grid(color="#E6E6E6")
figure.savefig(folder / "credit_by_lag.png", dpi=150)
