"""What does k mean? Four truncations that share a name, their masks and their bias.

python examples/what_does_k_mean.py [FOLDER FOR FIGURES]
"""

# %% [markdown]
# "Truncated BPTT with k = 8" means at least four things. Each is a mask M[t, s]: whether the loss
# at step t reaches the weights' use at step s. The mask is the definition, and `mask(T)` draws it.

# %%
import sys
from pathlib import Path

import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from bptt_lab import VanillaRNN
from bptt_lab.diagnostics import alignment, lag_spectrum
from bptt_lab.gradients import Truncated
from bptt_lab.training import style

torch.set_num_threads(1)
torch.manual_seed(0)
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures"
folder.mkdir(parents=True, exist_ok=True)
MODES = {
    "chunk": (style.BLUE, "detach every k steps"),
    "lag": (style.VERMILION, "every loss sees k steps"),
    "window": (style.GREEN, "every k/2 steps, k back"),
    "tail": (style.PURPLE, "detach once, k from the end"),
}
figure = Figure(figsize=(style.ACROSS, 8.6), layout="constrained")
rows = [["chunk", "lag"], ["window", "tail"], ["bias", "bias"]]
panels = figure.subplot_mosaic(rows, height_ratios=(1, 1, 1.2))

# %% [markdown]
# The rows are losses, the columns uses. `chunk` keeps blocks: a loss just after a cut sees one
# step, one just before it k, on average (k+1)/2. `lag` keeps a band. `window` keeps more than k/2
# steps for every loss, at twice the work of `chunk`. `tail` is for tasks with one loss, at the end.

# %%
T, K = 12, 4
print(f"T = {T}, k = {K}   terms kept of {T * (T + 1) // 2}   steps that a loss after step k sees")
for mode, (colour, meaning) in MODES.items():
    axes = panels[mode]
    mask = Truncated(k=K, mode=mode).mask(T)
    seen = mask.sum(1)[K:]
    mean = float(seen.double().mean())
    print(f"{mode:16} {int(mask.sum()):7} {int(seen.min()):14} to {int(seen.max())}, mean {mean}")
    picture = mask.double().masked_fill(torch.ones(T, T).triu(1).bool(), torch.nan)
    axes.imshow(picture, ListedColormap(["#EDEDED", colour]), extent=(0.5, 12.5, 12.5, 0.5))
    axes.hlines(torch.arange(T + 1) + 0.5, 0.5, 12.5, color="white", linewidth=0.8)
    axes.vlines(torch.arange(T + 1) + 0.5, 0.5, 12.5, color="white", linewidth=0.8)
    axes.set_title(f"{mode}, k = {K}\n{meaning}", fontsize=9)
    axes.set(xticks=[1, 4, 8, 12], yticks=[1, 4, 8, 12])
    axes.set(xlabel="use at step s", ylabel="loss at step t")
    axes.spines[:].set_visible(False)

# %% [markdown]
# What each costs in truth depends on the network. Here: an orthogonal start of gain 0.95, a target
# at every step. `alignment` compares strategies with full BPTT on the same batch and parameters;
# `lag_spectrum` knows the error of lag k for every k at once, from one run.

# %%
T, H = 48, 32
rnn = VanillaRNN(1, H, dtype=torch.float64)
torch.nn.init.orthogonal_(rnn.weight_hh_l0.data, 0.95)
x, target = torch.randn(T, 16, 1).double(), torch.randn(T, 16, H).double()


def loss(output: torch.Tensor) -> torch.Tensor:
    """Return the squared error at every step, summed."""
    return 0.5 * (output - target).square().sum()


ks = [1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48]
strategies = {f"{mode} {k}": Truncated(k=k, mode=mode) for mode in MODES for k in ks}
compared = alignment(rnn, x, loss, strategies)
spectrum = lag_spectrum(rnn, x, loss)

axes = panels["bias"]
for (mode, (colour, _)), marker in zip(MODES.items(), "os^D", strict=True):
    errors = [compared[f"{mode} {k}"].relative_error.value for k in ks]
    axes.plot(ks, errors, marker=marker, markersize=5, color=colour, label=mode)
    enough = next(k for k, error in zip(ks, errors, strict=True) if error < 0.1)
    print(f"{mode:6} relative error {errors[5]:.3f} at k = 8, under 0.1 from k = {enough}", end="")
    print(f", {errors[-1]:.0e} at k = T")
same = max(
    abs(float(spectrum.relative_error["total"][k - 1]) - compared[f"lag {k}"].relative_error.value)
    for k in ks
)
print(f"lag by its spectrum and by its strategy differ by {same:.0e} at most")

# %%
axes.set(
    xlabel="k (steps)", ylabel="relative error of the gradient", xlim=(0, T + 1), ylim=(0, None)
)
axes.set_title("The same k, four biases", loc="left", fontweight="bold")
axes.spines[["top", "right"]].set_visible(False)
axes.grid(color="#E6E6E6")
axes.legend(frameon=False)
figure.savefig(folder / "what_k_means.png", dpi=150)
