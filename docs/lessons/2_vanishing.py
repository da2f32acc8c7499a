# ---
# jupyter:
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
# # Why gradients vanish and explode
#
# You will see
#
# * credit that shrinks or grows by a constant factor a step, in three networks which differ in one
#   number,
# * three instruments for that factor: a bound from the weights, singular values, Lyapunov
#   exponents,
# * what clipping a gradient does, and what it cannot do.
#
# [Lesson 1](1_by_hand.md) explains the letters.

# %%
import math

import matplotlib.pyplot as plt
import torch

from bptt_lab import VanillaRNN, initialise
from bptt_lab.diagnostics import (
    credit_flow,
    jacobian_spectrum,
    lag_spectrum,
    lyapunov_spectrum,
)
from bptt_lab.training import style

# %config InlineBackend.figure_formats = ["svg"]
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
UNITS, STEPS, BATCH = 64, 100, 4
COLOURS = {0.5: style.BLUE, 1.0: style.GREEN, 1.5: style.VERMILION}

# %% [markdown]
# ## Three networks
#
# They compute $h_t = \phi(U x_t + W h_{t-1})$ with $\phi = \tanh$. $W$ is *gain* times an
# orthogonal matrix. An orthogonal matrix turns a vector and leaves its length alone, so `gain` is
# all that $W$ does to lengths. The input is noise, and the only loss is one at the last step.


# %%
def network(gain, phi="tanh"):
    rnn = VanillaRNN(1, UNITS, nonlinearity=phi, bias=False)
    initialise(rnn, "orthogonal", gain, None, torch.Generator().manual_seed(0))
    return rnn


draws = torch.Generator().manual_seed(1)
x = torch.randn(STEPS, BATCH, 1, generator=draws)  # time first
readout = torch.nn.functional.normalize(
    torch.randn(UNITS, generator=draws), dim=0
)


def loss(states):
    """Return a loss of the last state, whose immediate credit has length 1."""
    return (states[-1] @ readout).sum()


# %% [markdown]
# ## Credit against lag
#
# The credit that the loss at $t$ gives to the state $d$ steps earlier is a row times $d$ matrices:
#
# $$\frac{\partial E_t}{\partial h_{t-d}} = q_t\, J_t J_{t-1} \cdots J_{t-d+1}$$
#
# where $J_t = \mathrm{diag}(\phi'(a_t))\, W$ and $a_t = U x_t + W h_{t-1}$. `credit_flow` measures
# its length for every pair of steps. It returns logarithms, so nothing is too small for it. The
# slope of tanh is at most 1. Therefore a step multiplies the length by `gain` at most, and $d$
# steps by $\mathrm{gain}^d$, the *bound*.

# %%
nets = {gain: network(gain) for gain in COLOURS}
credit = {
    gain: credit_flow(rnn, x, loss).by_lag[0] for gain, rnn in nets.items()
}
lags = torch.arange(STEPS)
for gain, log10 in credit.items():
    bound = lags * math.log10(gain)
    print(
        f"gain {gain}: credit at lag {STEPS - 1} is 10^{log10[-1]:.1f}, "
        f"bound 10^{bound[-1]:.1f}"
    )
    assert (log10 <= bound + 1e-9).all()
assert -6.5 < credit[0.5][20] < -5.5
assert (
    credit[0.5][-1] < -25 and -4 < credit[1.0][-1] < 0 and credit[1.5][-1] > 1
)


# %% tags=["draws"]
@style.styled
def draw_credit():
    axes = style.blank(
        "Credit shrinks or grows by a constant factor a step",
        "lag d, steps back from the loss",
        "credit |∂E/∂h|, power of ten",
        4,
    )
    for gain, colour in COLOURS.items():
        axes.plot(lags, credit[gain], color=colour)
        axes.plot(
            lags,
            lags * math.log10(gain),
            color=colour,
            dashes=(4, 3),
            linewidth=1,
        )
    end = STEPS + 1
    axes.text(end, credit[1.5][-1], "gain 1.5", color=COLOURS[1.5], va="bottom")
    axes.text(end, credit[1.0][-1], "gain 1", color=COLOURS[1.0], va="top")
    axes.text(end, credit[0.5][-1], "gain 0.5", color=COLOURS[0.5], va="center")
    axes.text(
        58, 58 * math.log10(1.5), "bound 1.5ᵈ ", color=COLOURS[1.5], ha="right"
    )
    axes.set_xlim(0, STEPS + 18)
    plt.show()


draw_credit()

# %% [markdown]
# Straight lines on a logarithmic axis are powers. With gain 0.5 a millionth is left after 20 steps;
# after 24 it is less than what float32 rounds away. With gain 1 credit fades slowly, as the slope
# of tanh is a little below 1. With gain 1.5 it grows, but far more slowly than its bound (dashed)
# allows: large states drive tanh into its flat parts. (The curve bends up at the end, since the run
# starts from $h_0 = 0$, where tanh is steep.) `saturation` is the mean slope $\phi'$ along the run:

# %%
spectra = {gain: jacobian_spectrum(rnn, x) for gain, rnn in nets.items()}
for gain, spectrum in spectra.items():
    print(f"gain {gain}: mean slope of tanh {spectrum.saturation:.2f}")
assert (
    spectra[0.5].saturation > spectra[1.0].saturation > spectra[1.5].saturation
)

# %% [markdown]
# ## Singular values: each direction has a factor of its own
#
# The bound is about the direction that grows most. A product $P = J_t \cdots J_{t-d+1}$ multiplies
# each direction by one of its singular values. Here are all 64 of them, for one sequence of the
# network with gain 1.5, after 1, 10 and 40 steps.

# %%
spread = {
    lag: jacobian_spectrum(nets[1.5], x, lag=lag).singular_values[-1, 0]
    for lag in (1, 10, 40)
}
for lag, sigma in spread.items():
    print(
        f"{lag:2} steps: largest {sigma[0]:.2g}, "
        f"median {sigma.median():.2g}, bound {1.5**lag:.2g}"
    )
    assert sigma[0] <= 1.5**lag * (1 + 1e-9)
assert spread[40][0] > 1 > spread[40].median()


# %% tags=["draws"]
@style.styled
def draw_singular_values():
    axes = style.blank(
        "Gain 1.5: a few directions explode, most vanish",
        "singular value, the largest first",
        "size, power of ten",
    )
    for index, (lag, sigma) in enumerate(spread.items()):
        colour = style.shade(style.VERMILION, 2 - index, 3)
        axes.plot(range(1, UNITS + 1), sigma.log10(), color=colour)
        name = f"{lag} step{'s' if lag > 1 else ''}"
        axes.text(UNITS + 1, sigma[-1].log10(), name, color=colour, va="center")
    axes.axhline(0, color=style.GREY, linewidth=1)
    axes.set_xlim(0, UNITS + 13)
    plt.show()


draw_singular_values()

# %% [markdown]
# An exploding gradient therefore points along the few directions that grow. What the loss says
# along the others vanishes at the same time.
#
# ## Lyapunov exponents: the slope of the line
#
# The largest Lyapunov exponent $\lambda$ is the rate, in powers of $e$ a step, at which a small
# change of the state grows along the run. It is measured *forwards*, without any loss. Credit
# travels *backwards* through the same Jacobians, so the slope of its line is the same number.


# %%
def slope(log10):
    """Return the slope of log credit against lag, in powers of e a step."""
    d = lags - lags.double().mean()
    return float((d * log10).sum() / d.square().sum()) * math.log(10)


gains = [0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 1.5, 2.0]
measured = {}
for gain in gains:
    rnn = network(gain)
    exponent = float(lyapunov_spectrum(rnn, x, burn_in=20)[:, 0].mean())
    measured[gain] = exponent, slope(credit_flow(rnn, x, loss).by_lag[0])
    assert abs(measured[gain][0] - measured[gain][1]) < 0.03
print("gain  exponent  slope of credit")
print(
    "\n".join(
        f"{gain:4} {both[0]:9.3f} {both[1]:16.3f}"
        for gain, both in measured.items()
    )
)


# %% tags=["draws"]
@style.styled
def draw_exponents():
    axes = style.blank(
        "The slope of credit is the largest Lyapunov exponent",
        "gain",
        "powers of e a step",
    )
    exponents, slopes = zip(*measured.values(), strict=True)
    axes.axhline(0, color=style.GREY, linewidth=1)
    axes.plot(
        gains,
        [math.log(gain) for gain in gains],
        color=style.GREY,
        dashes=(4, 3),
        linewidth=1,
    )
    axes.plot(gains, exponents, color=style.BLUE)
    axes.plot(gains, slopes, "o", color=style.VERMILION, markersize=5)
    axes.text(
        1.6,
        math.log(1.6) + 0.03,
        "bound, ln gain",
        color=style.GREY,
        ha="right",
    )
    axes.text(0.62, -0.62, "Lyapunov exponent", color=style.BLUE)
    axes.text(
        0.62, -0.72, "• slope of credit against lag", color=style.VERMILION
    )
    axes.text(
        2,
        -0.03,
        "below 0 credit vanishes",
        color=style.GREY,
        ha="right",
        va="top",
    )
    plt.show()


draw_exponents()

# %% [markdown]
# The exponent is 0 at one gain only. No choice of a gain makes a tanh network keep credit for long:
# the gain moves in training, and the slopes move with the input.
#
# ## What the nonlinearity takes
#
# With $\phi(a) = a$ and an orthogonal $W$ nothing is lost. A relu passes a number or blocks it.
# Half of the units are blocked at any step, so a step keeps about half of the squared length. A
# gain of $\sqrt 2$ makes up for that, on average.

# %%
kinds = {
    "identity, gain 1": (network(1, "identity"), style.GREEN),
    "relu, gain √2": (network(math.sqrt(2), "relu"), style.PURPLE),
    "tanh, gain 1": (nets[1.0], style.BLUE),
    "relu, gain 1": (network(1, "relu"), style.VERMILION),
}
flows = {
    kind: credit_flow(rnn, x, loss).by_lag[0]
    for kind, (rnn, _) in kinds.items()
}
for kind, log10 in flows.items():
    print(f"{kind:17} loses a factor of {math.exp(-slope(log10)):.3f} a step")
assert (
    0.4 < jacobian_spectrum(kinds["relu, gain 1"][0], x).saturation < 0.6
)  # half are blocked
assert abs(slope(flows["identity, gain 1"])) < 1e-9
assert abs(slope(flows["relu, gain 1"]) - math.log(0.5) / 2) < 0.1
assert abs(slope(flows["relu, gain √2"])) < 0.1


# %% tags=["draws"]
@style.styled
def draw_kinds():
    axes = style.blank(
        "Of these four, only the linear one loses nothing",
        "lag d, steps back from the loss",
        "credit |∂E/∂h|, power of ten",
    )
    heights = {
        "identity, gain 1": "bottom",
        "relu, gain √2": "bottom",
        "tanh, gain 1": "top",
    }
    for kind, (_, colour) in kinds.items():
        axes.plot(lags, flows[kind], color=colour)
        axes.text(
            STEPS + 1,
            flows[kind][-1],
            kind,
            color=colour,
            va=heights.get(kind, "center"),
        )
    axes.set(xlim=(0, STEPS + 45), xticks=[0, 25, 50, 75, 100])
    plt.show()


draw_kinds()

# %% [markdown]
# ## Clipping
#
# Where the gradient $g$ is longer than a threshold, clipping by norm shortens it to the threshold:
#
# $$g \leftarrow g \cdot \min(1,\ \mathrm{threshold} / |g|)$$
#
# So it keeps the direction and bounds the size. A step of the optimizer cannot be thrown far away
# by one exploding sequence. That is all. The gradient is a sum of parts, one for each lag, and
# clipping multiplies all of them by the same number. Parts that have vanished stay as small beside
# the others as they were.

# %%
THRESHOLD = 5.0
before, after = {}, {}
for gain in (0.5, 1.5):
    rnn = nets[gain]
    rnn.zero_grad()
    loss(rnn(x)[0]).backward()
    g = torch.nn.utils.parameters_to_vector(p.grad for p in rnn.parameters())
    torch.nn.utils.clip_grad_norm_(rnn.parameters(), THRESHOLD)
    clipped = torch.nn.utils.parameters_to_vector(
        p.grad for p in rnn.parameters()
    )
    cosine = float(g @ clipped / (g.norm() * clipped.norm()))
    print(
        f"gain {gain}: |g| = {g.norm():.3g}, clipped {clipped.norm():.3g}, "
        f"cosine {cosine:.6f}"
    )
    assert clipped.norm() <= THRESHOLD * (1 + 1e-6) and cosine > 1 - 1e-9
    before[gain] = lag_spectrum(rnn, x, loss).norms[
        "total"
    ]  # of each lag's part
    after[gain] = before[gain] * clipped.norm() / g.norm()
assert torch.isclose(after[0.5], before[0.5]).all()  # too short to be clipped
for gain in before:
    near, far = before[gain][0], before[gain][50]
    assert torch.isclose(after[gain][50] / after[gain][0], far / near)


# %% tags=["draws"]
@style.styled
def draw_clipping():
    axes = style.blank(
        "Clipping moves the whole curve; it does not bend it",
        "lag d of the gradient's part",
        "its length, power of ten",
        3.8,
    )
    colour = COLOURS[1.5]
    axes.plot(
        lags, before[1.5].log10(), color=colour, dashes=(4, 3), linewidth=1
    )
    axes.plot(lags, after[1.5].log10(), color=colour)
    axes.plot(lags, after[0.5].log10(), color=COLOURS[0.5])
    axes.text(
        STEPS,
        before[1.5][-1].log10() + 0.5,
        "gain 1.5",
        color=colour,
        ha="right",
    )
    axes.text(
        STEPS,
        after[1.5][-1].log10() - 1,
        "clipped",
        color=colour,
        ha="right",
        va="top",
    )
    axes.text(
        64, -21, "gain 0.5, nothing to clip", color=COLOURS[0.5], ha="right"
    )
    plt.show()


draw_clipping()

# %% [markdown]
# Against vanishing there is no such remedy: a longer gradient is still dominated by its near parts.
# One changes the recurrence instead: an orthogonal start (`model=orthogonal`, the default of
# `bptt-train`), the identity as a start with relu (`model=irnn`), or a leak.
#
# ## Try
#
# 1. Find a gain with an exponent within 0.005 of 0. Then multiply `x` by 3. Does it still hold?
# 2. Give all networks `leak=0.1` in `network`: $J_t$ is then
#    $0.9 I + 0.1\, \mathrm{diag}(\phi') W$. How far does credit travel with gain 0.5 now?
# 3. Replace `"orthogonal"` by `"gaussian"`. Which of the three instruments changes most, and why is
#    the bound so much further away?
# 4. Make `STEPS` 400. Which curve needs `credit_flow` to return logarithms?
#
# **More**: [every tag of the dashboard](../dashboard.md), where these instruments run during
# training; `bptt-reproduce vanishing` checks the statements of this page and more; Bengio, Simard
# and Frasconi, *Learning long-term dependencies with gradient descent is difficult* (1994), and
# Pascanu, Mikolov and Bengio, *On the difficulty of training recurrent neural networks* (2013).
