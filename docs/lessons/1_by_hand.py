# ---
# jupyter:
#   slow: true
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Backpropagation through time by hand
#
# You will see
#
# * the gradient of a network with two units and three steps, with every number on the way,
# * why the recurrent matrix gets one term for each step that used it, and what a term is made of,
# * one sweep from the last step to the first, which finds the same sum without any single term.
#
# You need the chain rule and matrix products, nothing else.

# %%
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from bptt_lab import VanillaRNN
from bptt_lab.gradients import Full
from bptt_lab.gradients.oracle import terms
from bptt_lab.training import style

# %config InlineBackend.figure_formats = ["svg"]
torch.set_default_dtype(torch.float64)


def show(name, value):
    print(f"{name:20}", torch.as_tensor(value).numpy().round(4).tolist())


def same(one, other):
    return (one - other).abs().max() < 1e-12


# %% [markdown]
# ## The network
#
# $$h_t = \tanh(U x_t + W h_{t-1})$$
#
# $$\bar y_t = \mathrm{softmax}(V h_t), \qquad E_t = |d_t - \bar y_t|^2$$
#
# $h_t$ is the state after step $t$, $\bar y_t$ the answer and $d_t$ the answer that was wanted. The
# starting state $h_0$ is not zero, so that no term of the gradient is zero by chance.

# %%
T = 3
U = torch.tensor([[0.6], [-0.4]])
W = torch.tensor([[0.9, -0.5], [0.4, 0.8]])
V = torch.tensor([[1.0, -0.5], [-0.8, 0.7]])
x = {1: torch.tensor([1.0]), 2: torch.tensor([-0.5]), 3: torch.tensor([0.5])}
d = {
    1: torch.tensor([1.0, 0.0]),
    2: torch.tensor([0.0, 1.0]),
    3: torch.tensor([0.0, 1.0]),
}
h_0 = torch.tensor([0.5, -0.3])


def forward(weight, t_last=T):
    """Return the states h_0 ... h_T and the answers, by step."""
    h, ybar = {0: h_0}, {}
    for t in range(1, t_last + 1):
        h[t] = torch.tanh(U @ x[t] + weight @ h[t - 1])
        ybar[t] = torch.softmax(V @ h[t], 0)
    return h, ybar


h, ybar = forward(W)
for t in (1, 2, 3):
    show(f"h_{t}", h[t])
    show(f"ybar_{t}", ybar[t])
    show(f"E_{t}", (d[t] - ybar[t]).square().sum())

# %% [markdown]
# ## Three uses of one matrix
#
# We want $dE_3/dW$. Only $h_3$ meets the loss $E_3$, but $h_3$ is made of $h_2$, which was made
# with $W$ too, and so was $h_1$. Write $W_1, W_2, W_3$ for the matrix as steps 1, 2 and 3 use it.
# The three are equal. If all three move together, their effects add up:
#
# $$\frac{dE_3}{dW} = \frac{\partial E_3}{\partial W_3} + \frac{\partial E_3}{\partial W_2} +
# \frac{\partial E_3}{\partial W_1}$$
#
# Each of these is a chain along one path, from the loss back to the step $s$ that used the matrix:
#
# $$\frac{\partial E_3}{\partial W_s} = \frac{\partial E_3}{\partial \bar y_3}
# \frac{\partial \bar y_3}{\partial h_3} \frac{\partial h_3}{\partial h_s}
# \frac{\partial^+ h_s}{\partial W}$$
#
# Many texts call the state $s_t$ and the step that used the matrix $k$. There the same sum reads
#
# $$\frac{\partial E_3}{\partial W} = \sum_{k=1}^{3} \frac{\partial E_3}{\partial \bar y_3}
# \frac{\partial \bar y_3}{\partial s_3} \frac{\partial s_3}{\partial s_k}
# \frac{\partial s_k}{\partial W}$$
#
# We compute its factors from left to right.

# %% [markdown]
# ### From the loss to its own state
#
# The first two factors together are a row of two numbers, the *immediate credit*
# $q_3 = \partial E_3 / \partial h_3$. The derivative of the softmax is
# $\mathrm{diag}(\bar y) - \bar y \bar y^T$.

# %%


def immediate_credit(t):
    """Return q_t, what the loss of a step says of the state of the same step."""
    dE_dybar = 2 * (ybar[t] - d[t])
    dybar_dz = torch.diag(ybar[t]) - torch.outer(ybar[t], ybar[t])
    return dE_dybar @ dybar_dz @ V


q = {t: immediate_credit(t) for t in (1, 2, 3)}
show("q_3", q[3])

# %% [markdown]
# ### From a state to the one before
#
# The derivative of $h_t$ with respect to $h_{t-1}$ is the *recurrent Jacobian*. The derivative of
# tanh is $1 - \tanh^2$, so
#
# $$J_t = \frac{\partial h_t}{\partial h_{t-1}} = \mathrm{diag}(1 - h_t^2)\, W$$
#
# Two steps back are a product of two: $\partial h_3 / \partial h_1 = J_3 J_2$.

# %%
slope = {t: 1 - h[t].square() for t in (1, 2, 3)}
J = {t: torch.diag(slope[t]) @ W for t in (2, 3)}
show("J_3", J[3])
show("J_2", J[2])
show("J_3 J_2", J[3] @ J[2])

# %% [markdown]
# ### The use itself: the immediate derivative
#
# The last factor is where most people stumble. $\partial^+ h_s / \partial W$ asks how $h_s$ moves
# when $W$ moves **at step $s$ only, with $h_{s-1}$ held fixed**. The plus says so. What earlier
# uses of $W$ do to $h_{s-1}$ belongs to the other paths and must not be counted here.
#
# $h_s$ has two entries and $W$ has four, so this factor holds eight numbers,
# $\bar M_s[i, j, k] = \partial^+ h_s[i] / \partial W[j, k]$. Row $j$ of $W$ feeds unit $j$ alone:
# the number is $(1 - h_s[i]^2)\, h_{s-1}[k]$ where $i = j$, and 0 elsewhere.

# %%
Mbar = {
    s: torch.einsum("ij,k->ijk", torch.diag(slope[s]), h[s - 1])
    for s in (1, 2, 3)
}
show("Mbar_3, unit 1", Mbar[3][0])
show("Mbar_3, unit 2", Mbar[3][1])

# %% [markdown]
# ## The three terms, and their sum

# %%
term_33 = torch.einsum("i,ijk->jk", q[3], Mbar[3])
term_32 = torch.einsum("i,ijk->jk", q[3] @ J[3], Mbar[2])
term_31 = torch.einsum("i,ijk->jk", q[3] @ J[3] @ J[2], Mbar[1])
by_terms = term_33 + term_32 + term_31

show("q_3 Mbar_3", term_33)
show("q_3 J_3 Mbar_2", term_32)
show("q_3 J_3 J_2 Mbar_1", term_31)
show("dE_3/dW, their sum", by_terms)

# %% [markdown]
# torch's autograd knows nothing of all this. It sees the program and finds the same four numbers:

# %%
weight = W.clone().requires_grad_()
_, answers = forward(weight)
(by_autograd,) = torch.autograd.grad((d[3] - answers[3]).square().sum(), weight)
show("dE_3/dW, autograd", by_autograd)
show("largest difference", (by_terms - by_autograd).abs().max())
assert same(by_terms, by_autograd)

# %% [markdown]
# The three paths in a picture. $|\cdot|$ is the length of a term, the root of its sum of squares.

# %% tags=["draws"]
COLOURS = {3: style.BLUE, 2: style.GREEN, 1: style.VERMILION}
NAMES = {3: "q₃ M̄₃", 2: "q₃ J₃ M̄₂", 1: "q₃ J₃ J₂ M̄₁"}
LENGTHS = {3: term_33.norm(), 2: term_32.norm(), 1: term_31.norm()}


@style.styled
def draw_paths():
    _, axes = plt.subplots(figsize=(4.8, 4.4), layout="constrained")
    for row, s in enumerate((3, 2, 1)):
        y, colour = -1.5 * row, COLOURS[s]
        on, off = (
            {"color": c, "lw": w} for c, w in ((colour, 2.2), (style.FAINT, 1))
        )
        for t, name in enumerate(("h₀", "h₁", "h₂", "h₃", "E₃")):
            axes.text(t, y, name, ha="center", va="center")
            if t > 0:
                arrow = {"arrowstyle": "->", **(on if t > s else off)}
                axes.annotate("", (t - 0.8, y), (t - 0.2, y), arrowprops=arrow)
            if t > s:
                factor = "q₃" if t == 4 else name.replace("h", "J")
                axes.text(t - 0.5, y + 0.13, factor, color=colour, ha="center")
            if t == s:
                axes.annotate(
                    "",
                    (s, y - 0.6),
                    (s, y - 0.15),
                    arrowprops={"arrowstyle": "->", **on},
                )
                axes.text(
                    s + 0.1,
                    y - 0.4,
                    name.replace("h", "M̄"),
                    color=colour,
                    va="center",
                )
                axes.text(
                    s, y - 0.72, "W", color=colour, ha="center", va="center"
                )
        axes.text(
            4.4,
            y,
            f"|{NAMES[s]}|\n= {LENGTHS[s]:.3f}",
            color=colour,
            va="center",
        )
    axes.set(xlim=(-0.3, 5.7), ylim=(-4, 0.5))
    axes.set_title(
        "Credit reaches W by three paths, one for each step that used it"
    )
    axes.axis("off")
    plt.show()


draw_paths()

# %% [markdown]
# ## The stumbling block, in numbers
#
# What if the last factor were the ordinary, *total* derivative $dh_s/dW$, in which $h_{s-1}$ moves
# too? It obeys $M_s = J_s M_{s-1} + \bar M_s$: it already holds the older uses. Put into the sum,
# it would count use 1 three times and use 2 twice. Used alone it is right: $q_3 M_3$ is the whole
# gradient in a single term.

# %%
M = {0: torch.zeros(2, 2, 2), 1: Mbar[1]}
for s in (2, 3):
    M[s] = torch.einsum("ij,jkl->ikl", J[s], M[s - 1]) + Mbar[s]

to_state = {3: q[3], 2: q[3] @ J[3], 1: q[3] @ J[3] @ J[2]}  # dE_3/dh_s
counted_twice = sum(
    torch.einsum("i,ijk->jk", to_state[s], M[s]) for s in (1, 2, 3)
)
show("right", by_terms)
show("the wrong sum", counted_twice)
show("q_3 M_3 alone", torch.einsum("i,ijk->jk", q[3], M[3]))
assert same(counted_twice, term_33 + 2 * term_32 + 3 * term_31)
assert same(torch.einsum("i,ijk->jk", q[3], M[3]), by_terms)

# %% [markdown]
# $M_t$ needs no later step, so it can be carried along while the network runs.
# [Lesson 5](5_online.md) learns in this way.

# %% [markdown]
# ## All losses: a triangle of terms
#
# The loss of the whole sequence is $E = E_1 + E_2 + E_3$. Each loss time $t$ has one term for each
# use $s \le t$, so there are six. `terms` of the package computes every one for any network: it
# gives each step its own copy of $W$, as $W_1, W_2, W_3$ above, and asks autograd for each pair.

# %%
rnn = VanillaRNN(1, 2, bias=False, gradient=Full())
with torch.no_grad():
    rnn.weight_ih_l0.copy_(U)
    rnn.weight_hh_l0.copy_(W)
inputs = torch.stack([x[1], x[2], x[3]])[:, None]  # (steps, batch, inputs)
wanted = torch.stack([d[1], d[2], d[3]])[:, None]


def loss(states):
    """Return E for states (steps, batch, units)."""
    return (wanted - torch.softmax(states @ V.T, -1)).square().sum()


start = h_0[None, None]
triangle = terms(rnn, inputs, loss, start)[
    "weight_hh_l0"
]  # [t - 1, s - 1] is a 2 x 2 matrix
for s, by_hand in {3: term_33, 2: term_32, 1: term_31}.items():
    assert same(triangle[2, s - 1], by_hand)


# %% tags=["draws"]
@style.styled
def draw_triangle():
    lengths = triangle.flatten(2).norm(dim=2)
    _, axes = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
    axes.imshow(
        lengths.masked_fill(torch.ones(3, 3).triu(1).bool(), torch.nan),
        "Blues",
        vmin=0,
    )
    for t in range(3):
        for s in range(t + 1):
            factors = [
                f"q{'₁₂₃'[t]}",
                *(f"J{'₁₂₃'[u]}" for u in range(t, s, -1)),
                f"M̄{'₁₂₃'[s]}",
            ]
            dark = lengths[t, s] > 0.6 * lengths.max()
            text = f"{' '.join(factors)}\n{lengths[t, s]:.3f}"
            axes.text(
                s,
                t,
                text,
                ha="center",
                va="center",
                color="white" if dark else style.INK,
            )
    axes.set_xticks(range(3), [f"used at s = {s}" for s in (1, 2, 3)])
    axes.set_yticks(range(3), [f"loss at\nt = {t}" for t in (1, 2, 3)])
    axes.set_title("Six terms: below the diagonal, credit that has travelled")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    plt.show()


draw_triangle()

# %% [markdown]
# The *lag* of a term is $t - s$, the number of Jacobians in it. Truncation leaves out some terms of
# this triangle ([lesson 3](3_truncation.md)).

# %% [markdown]
# ## One sweep instead of all terms
#
# $T$ steps have $T (T + 1) / 2$ terms, which is too many for long sequences. But terms share
# factors. Sort them by the step $s$ that used $W$: all of them pass through $h_s$. So collect what
# arrives there, the *credit* $c_s = dE / dh_s$, going backwards:
#
# $$c_t = q_t + J_{t+1}^T c_{t+1}$$
#
# $$\delta_t = (1 - h_t^2) \odot c_t, \qquad \frac{dE}{dW} = \sum_t \delta_t h_{t-1}^T$$
#
# ($\odot$ multiplies entry by entry.) That is one product a step instead of one a term. This
# recursion *is* backpropagation through time. The product $\delta_t h_{t-1}^T$ is $c_t \bar M_t$
# without its zeros.

# %%
c = {4: torch.zeros(2)}
J[4] = torch.zeros(2, 2)  # nothing follows the last step
by_sweep = torch.zeros(2, 2)
for t in (3, 2, 1):
    c[t] = q[t] + J[t + 1].T @ c[t + 1]
    delta = slope[t] * c[t]
    by_sweep += torch.outer(delta, h[t - 1])
    show(f"c_{t}", c[t])
show("dE/dW by the sweep", by_sweep)
show("dE/dW, six terms", triangle.sum((0, 1)))
assert same(by_sweep, triangle.sum((0, 1)))

# %% [markdown]
# `VanillaRNN` takes the place of `torch.nn.RNN`. With `gradient=Full()` it does this sweep when you
# call `backward`.

# %%
output, _ = rnn(inputs, start)
loss(output).backward()
show("dE/dW by VanillaRNN", rnn.weight_hh_l0.grad)
assert same(rnn.weight_hh_l0.grad, by_sweep)

# %% [markdown]
# ## The whole lesson in one command
#
#     bptt-explain --steps 3
#
# prints every number of $dE_3/dW$ above and compares the result with finite differences too. Here
# is the end of it:

# %%
command = Path(sys.executable).with_name("bptt-explain")
told = subprocess.run(
    [command, "--steps", "3"], capture_output=True, text=True, check=True
).stdout
told = told[told.index("7. Four answers") : told.index("8. What")]
print(told)
assert all(f"{number:.5f}" in told for number in by_terms.flatten().tolist())

# %% [markdown]
# `--all` takes all three losses, `--k 2 --mode lag` shows which terms a truncation cuts, and
# `--figure paths.png` draws them.
#
# ## Try
#
# 1. Set `h_0` to zeros. One of the three terms of $dE_3/dW$ is then zero: which, and why?
# 2. Multiply `W` by 0.5, then by 2. How do the lengths of the three terms change? The reason is the
#    subject of [lesson 2](2_vanishing.md).
# 3. Write down $dE_3/dU$. Only one factor changes. Check it with `torch.autograd.grad`.
# 4. $dE_3/dV$ needs no sum over steps. Why?
#
# (The last cell compares with the numbers of the command, so it fails where yours are others.)
#
# **More**: [what truncation means](../truncation.md), [from Python](../python.md). The formula with
# $s_t$ and the sum over $k$ is that of Denny Britz, *Recurrent neural networks tutorial, part 3*
# (2015); the sweep is that of Werbos, *Backpropagation through time: what it does and how to do it*
# (1990).
