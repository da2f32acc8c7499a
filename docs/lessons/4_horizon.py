# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   slow: true
#   kernelspec: {name: python3, display_name: Python 3}
# ---

# %% [markdown]
# # k and the horizon
#
# Truncation at k steps lets a sequence of any length be trained in little memory. It also sets a
# horizon: what lies further back than k steps gets no gradient. You will see
#
# * a task with one known delay, where accuracy jumps at the k that reaches it;
# * handwritten digits read pixel by pixel, where accuracy grows with k over the whole image;
# * how a sweep over k and seeds is run, and what its table holds.

# %%
import contextlib
import io

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import (
    binary_cross_entropy_with_logits as cross_entropy,
)

from bptt_lab import lab
from bptt_lab.gradients import Truncated
from bptt_lab.nn import Fleet
from bptt_lab.training import style

# %config InlineBackend.figure_formats = ["svg"]
torch.set_num_threads(1)


# %% [markdown]
# ## One known delay
#
# The network reads random bits. At every step it has to name the bit of 8 steps before. The loss at
# step $t$ has to reach the input at step $t - 8$. With a truncation lag k the own step of a loss is
# the first of the k, so this takes $k \ge 9$.

# %%
DELAY, STEPS, BATCH, HIDDEN = 8, 20, 32, 16


def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw bits, (T, N, 1), and those that are due from step DELAY on."""
    bits = torch.randint(2, (STEPS, count, 1)).float()
    return 2 * bits - 1, bits[: STEPS - DELAY, :, 0].flatten()


# %% [markdown]
# `Truncated(k=k, mode="lag")` is the strategy in which every loss reaches exactly k steps. For each
# k there are three networks, which differ in their first weights. A `Fleet` holds them all. Their
# weights are stacked in one module and they learn side by side, each as if it were alone.

# %%
torch.manual_seed(0)
ks, SEEDS = (1, 2, 4, 6, 8, 9, 10, 12), 3
strategies = [Truncated(k=k, mode="lag") for k in ks for _ in range(SEEDS)]
R = len(strategies)
fleet = Fleet(R, 1, HIDDEN, gradient=strategies)
for weight in fleet.weight_hh_l0.data:
    torch.nn.init.orthogonal_(weight)  # so that no gradient vanishes on the way
readout = torch.nn.Linear(HIDDEN, R)  # row r is network r's
adam = torch.optim.Adam([*fleet.parameters(), *readout.parameters()], lr=5e-3)


def logits(bits: torch.Tensor) -> torch.Tensor:
    """Return every network's answers from step DELAY on, (R, T * N)."""
    output, _ = fleet(bits)  # (R, T, N, H)
    states = output[:, DELAY:].flatten(1, 2)
    return torch.baddbmm(
        readout.bias[:, None, None], states, readout.weight[:, :, None]
    )[..., 0]


for _ in range(250):
    bits, due = draw(BATCH)
    answers = logits(bits)
    adam.zero_grad()
    cross_entropy(answers, due.expand_as(answers), reduction="sum").div(
        len(due)
    ).backward()
    adam.step()

with torch.no_grad():
    bits, due = draw(500)
    right = ((logits(bits) > 0) == due.bool()).float().mean(1).view(-1, SEEDS)
for k, found in zip(ks, right, strict=True):
    print(
        f"k = {k:2}   accuracy of three networks  "
        + "  ".join(f"{a:.2f}" for a in found)
    )

mean = dict(zip(ks, right.mean(1).tolist(), strict=True))
assert all(mean[k] > 0.95 for k in ks if k > DELAY), (
    "the delay is learnt where k passes it"
)
assert all(mean[k] < 0.75 for k in ks if 1 < k <= DELAY), (
    "and not where k is less"
)

# %% tags=["draws"]
axes = style.blank(
    "Accuracy jumps once k passes the delay",
    "k, steps that credit travels",
    "accuracy",
)
axes.plot(ks, right, "o", color=style.BLUE, alpha=0.55, markeredgewidth=0)
axes.plot(ks, right.mean(1), color=style.BLUE)
axes.axvline(DELAY + 1, color=style.VERMILION, dashes=(4, 3))
axes.text(DELAY + 1.2, 0.75, "k = delay + 1", color=style.VERMILION)
axes.axhline(0.5, color=style.GREY, linewidth=1)
axes.text(12, 0.51, "guessing", color=style.GREY, ha="right", va="bottom")
axes.set(xticks=ks, ylim=(0.4, 1.04))
plt.show()

# %% [markdown]
# Two things to notice.
#
# * The jump is as sharp as the delay. Credit that ends one step too early is worth nothing here.
# * Small k is above guessing all the same, and k = 1 does better than k = 8. An orthogonal matrix
#   loses little, so the state *holds* old bits before anything is learnt, and some of them can be
#   read out of the state one step before. So a result above chance does not prove that credit has
#   travelled that far.

# %% [markdown]
# ## Many delays at once: digits by pixel
#
# An 8 by 8 image of a digit is read as a sequence of 64 pixels. The digit is named once, after the
# last one. With one loss at the end, credit that travels k steps reaches the last k pixels. The
# others are seen by the network, but how it treats them is learnt from those k pixels alone.
#
# With one loss, and k a divisor of 64, the modes `chunk`, `lag` and `tail` have the same gradient:
# only the last row of their masks counts, and it is the same.

# %%
rows = {
    mode: Truncated(k=16, mode=mode).mask(64)[-1]
    for mode in ("chunk", "lag", "tail")
}
assert rows["chunk"].equal(rows["lag"])
assert rows["chunk"].equal(rows["tail"])
assert rows["chunk"].sum() == 16

# %% [markdown]
# `lab.sweep` trains a network for each combination of values, as `bptt-train -m` does. The launcher
# `fleet` trains those that differ in numbers only side by side. A sweep prints a line for each job,
# which is kept out of this page. k = 64 is full backpropagation through time.

# %%
space = {"gradient.k": [2, 8, 64], "seed": range(3)}
settings = {
    "dataset": "digits",
    "gradient": "truncated",
    "model.hidden_size": 64,
    "optimizer.lr": 2e-3,
    "trainer.max_epochs": 8,
    "callbacks": "none",
}
with contextlib.redirect_stdout(io.StringIO()):
    sweep = lab.sweep(space, settings, launcher="fleet")
table = sweep.table()
table[["gradient.k", "seed", "test/accuracy", "test/loss", "status"]]

# %%
accuracy = table.pivot(
    index="gradient.k", columns="seed", values="test/accuracy"
)

by_k = accuracy.mean(axis=1)
assert by_k[64] > by_k[8] > by_k[2] > 0.2, (
    "the more pixels credit reaches, the better"
)

# %% tags=["draws"]
axes = style.blank(
    "Digits: the further credit travels, the better",
    "k, steps that credit travels (of 64)",
    "test accuracy",
)
axes.plot(
    accuracy.index,
    accuracy,
    "o",
    color=style.BLUE,
    alpha=0.55,
    markeredgewidth=0,
)
axes.plot(accuracy.index, accuracy.mean(axis=1), color=style.BLUE)
axes.axhline(0.1, color=style.GREY, linewidth=1)
axes.text(64, 0.11, "guessing", color=style.GREY, ha="right", va="bottom")
style.powers_of_two(axes.xaxis, [*accuracy.index])
axes.set(ylim=(0, 1))
plt.show()

# %% [markdown]
# This was three seeds and eight epochs. The file `benchmarks/digits_accuracy_by_k.csv` in the
# repository has ten seeds and thirty epochs, and its first line is the command that made it.
#
# There is no jump here, since a digit has no single delay. How large k has to be depends on the
# task, and nobody knows it in advance. So measure it: begin with full backpropagation, which these
# short sequences allow, and lower k until the accuracy suffers.
#
# ## Try
#
# 1. Set `DELAY = 5`. Where does the jump go? What happens to k = 1, and why?
# 2. Take `mode="chunk"` in place of `"lag"` in the first part. Which losses of a chunk of 9 steps
#    reach 8 steps back? What accuracy has k = 9 now, and why is it not 1?
# 3. Leave out the orthogonal start. What becomes of k = 1, and what of k = 9?
# 4. Add `"dataset.layout": "rows"` to the settings and take k = 1, 2, 4, 8: an image is now 8 steps
#    of 8 pixels. Which k do you need?
#
# **More.** [Truncation in four senses](../truncation.md) has the masks.
# [Sweeps](../sweeps.md) has launchers, resuming and reports. For another task,
# `bptt-train experiment=horizon_adding` finds the longest delay that is learnt at each k, and
# `bptt-horizon` draws it.
