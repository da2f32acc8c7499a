# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   slow: true
#   kernelspec: {name: python3, display_name: Python 3}
# ---

# %% [markdown]
# # Learning online
#
# A stream has no end, so there is no last step from which backpropagation could begin. Online rules
# carry forward what they need and learn at every step. You will see
#
# * that RTRL's gradient equals full backpropagation's, and how noisy UORO's is;
# * how three online rules learn a stream whose law changes halfway;
# * what each keeps in memory and what a step costs.

# %%
import time
import warnings
from functools import partial

import matplotlib.pyplot as plt
import torch

from bptt_lab import VanillaRNN
from bptt_lab.gradients import RTRL, UORO, Full, GradientStrategy, SnAp1
from bptt_lab.lab import Codec, Net, Network
from bptt_lab.training import style

# %config InlineBackend.figure_formats = ["svg"]
torch.set_num_threads(1)
COLOURS = {
    "RTRL": style.BLUE,
    "SnAp-1": style.GREEN,
    "UORO": style.VERMILION,
    "cut": style.PURPLE,
}


# %% [markdown]
# ## The same gradient without going back
#
# Backpropagation asks of every loss how it depends on earlier states. RTRL (real-time recurrent
# learning) asks of every parameter how the present state depends on it. The answer is the influence
# matrix $M_t = \mathrm{d} h_t / \mathrm{d} \theta$. It is carried forward,
#
# $$M_t = J_t M_{t-1} + \bar M_t, \qquad \frac{\mathrm{d} E}{\mathrm{d} \theta} = \sum_t q_t M_t$$
#
# where $J_t = \partial h_t / \partial h_{t-1}$, $\bar M_t$ is the influence of step $t$ alone, and
# $q_t = \partial E_t / \partial h_t$.
#
# `unroll` runs one chunk and returns the carry, which has the state and the influence. Here a chunk
# is a single step and each loss is differentiated by itself. The units are leaky: with `leak=0.5` a
# state moves half the way to its new value, so each unit remembers a little by itself.


# %%
def gradient(
    strategy: GradientStrategy, x: torch.Tensor, chunk_length: int
) -> torch.Tensor:
    """Return the gradient for W_hh, summed over the chunks of a stream."""
    torch.manual_seed(0)
    rnn, carry = (
        VanillaRNN(1, 12, leak=0.5, dtype=torch.float64, gradient=strategy),
        None,
    )
    for chunk in x.split(chunk_length):
        output, carry = rnn.unroll(chunk, carry)
        output.square().sum().backward()
    return rnn.weight_hh_l0.grad


torch.manual_seed(1)
stream = torch.randn(60, 1, 1, dtype=torch.float64)
bptt = gradient(Full(), stream, chunk_length=60)


def error(
    found: torch.Tensor,
) -> float:  # as a share of the norm of full BPTT's
    return float((found - bptt).norm() / bptt.norm())


errors = {
    "RTRL": error(gradient(RTRL(), stream, 1)),
    "SnAp-1": error(gradient(SnAp1(), stream, 1)),
    "UORO": error(gradient(UORO(), stream, 1)),
    "BPTT cut after each step": error(gradient(Full(), stream, 1)),
}
for name, value in errors.items():
    print(f"{name:26} relative error {value:.2g}")

assert errors["RTRL"] < 1e-10, "RTRL's steps add up to full BPTT's gradient"
assert errors["SnAp-1"] < errors["BPTT cut after each step"] < 1

# %% [markdown]
# * **RTRL** is exact. Its influence has $H^2 (H + I + 1)$ numbers: units times parameters, with the
#   two biases as one, since their influence is the same. A step takes some $2 H^4$ operations.
# * **SnAp-1** keeps of the influence only what each unit's own weights do to that unit. Cheap, and
#   biased: what a weight does through other units is left out.
# * **UORO** writes the influence as a random column times a random row. Cheap and unbiased. One
#   draw is far off, but the mean over many draws tends to the true gradient. How fast?
#
# Every sequence of a batch has random signs of its own. So a batch of n copies of the stream gives
# the mean of n draws.

# %%
draws = [1, 4, 16, 64, 256, 1024, 4096]
noise = [
    [
        error(gradient(UORO(seed=seed), stream.expand(-1, n, -1), 60) / n)
        for seed in range(3)
    ]
    for n in draws
]
middle = torch.tensor(noise).median(1).values

assert middle[-1] < middle[0] / 10, "the error falls as 1 / sqrt(n)"

# %% tags=["draws"]
axes = style.blank(
    "UORO: right on average, noisy in a draw",
    "draws averaged",
    "relative error",
)
axes.plot(
    draws, noise, "o", color=COLOURS["UORO"], alpha=0.55, markeredgewidth=0
)
axes.plot(draws, middle, color=COLOURS["UORO"])
axes.text(draws[1], middle[1] * 1.6, "UORO", color=COLOURS["UORO"])
axes.axhline(errors["SnAp-1"], color=COLOURS["SnAp-1"])
axes.text(
    4096,
    errors["SnAp-1"] * 1.1,
    "SnAp-1, always",
    color=COLOURS["SnAp-1"],
    ha="right",
)
axes.set(xscale="log", yscale="log", xticks=draws, xticklabels=draws)
axes.minorticks_off()
plt.show()

# %% [markdown]
# Four times the draws halve the error. A learner has one draw a step. It averages over steps
# instead, by a small learning rate.

# %% [markdown]
# ## A stream that changes
#
# Random signs $x_t$ come in. What is asked for depends on two earlier ones, and halfway the law
# changes, of which nobody tells the learner:
#
# $$y_t = 0.5\, x_{t-2} + 0.3\, x_{t-5} \quad \text{and later} \quad
# y_t = 0.5\, x_{t-3} + 0.3\, x_{t-4}$$
#
# `net.learner` makes a learner of a network. `predict_one` answers without learning, `learn_one`
# learns from the right answer. Each error below is made *before* the answer is known, so it is a
# test error.
#
# Beside the three rules, `cut` is full backpropagation through chunks of one step, as by detaching
# the state at every step. The learner warns that this cuts all credit after a step.

# %%
LENGTH, CHANGE, HIDDEN = 2000, 1000, 8
torch.manual_seed(0)
x = torch.randint(2, (LENGTH,)) * 2.0 - 1
y = 0.5 * x.roll(2) + 0.3 * x.roll(5)
y[CHANGE:] = (0.5 * x.roll(3) + 0.3 * x.roll(4))[CHANGE:]


def learner(
    strategy: GradientStrategy, hidden_size: int = HIDDEN, rate: float = 3e-3
):
    """Return a learner of a new network."""
    torch.manual_seed(1)
    readout = torch.nn.Linear(hidden_size, 1)
    net = Net(
        Network(VanillaRNN(1, hidden_size), readout, None, Codec(1, 1, "mse"))
    )
    return net.learner(
        gradient=strategy, optimizer=partial(torch.optim.Adam, lr=rate)
    )


def numbers(carry: object) -> int:
    if isinstance(carry, torch.Tensor):
        return carry.numel()
    return sum(map(numbers, carry)) if isinstance(carry, list | tuple) else 0


rules = {
    "RTRL": RTRL(),
    "SnAp-1": SnAp1(),
    "UORO": UORO(),
    "cut": Full(),
}
squared, kept = {}, {}
for name, strategy in rules.items():
    with warnings.catch_warnings(action="ignore"):  # of the cut, which is meant
        online, squared[name], kept[name] = learner(strategy), [], []
    for x_t, y_t in zip(x.tolist(), y.tolist(), strict=True):
        squared[name].append((online.predict_one(x_t) - y_t) ** 2)
        online.learn_one(x_t, y_t)
        kept[name].append(numbers(online.carry))

# %% tags=["draws"]
WINDOW = 100
axes = style.blank(
    "Online rules learn, and learn again",
    "step of the stream",
    "squared error, moving mean",
)
for name, found in squared.items():
    moving = torch.tensor(found).unfold(0, WINDOW, 1).mean(1)
    axes.plot(
        torch.arange(WINDOW, LENGTH + 1),
        moving,
        color=COLOURS[name],
        label=name,
    )
axes.axhline(0.34, color=style.GREY, linewidth=1)
axes.text(
    LENGTH,
    0.345,
    "always answering 0",
    color=style.GREY,
    ha="right",
    va="bottom",
)
axes.axvline(CHANGE, color=style.GREY, dashes=(4, 3), linewidth=1)
axes.text(CHANGE - 20, 0.45, "the law changes", color=style.GREY, ha="right")
axes.set(ylim=(0, 0.65), xlim=(0, LENGTH))
axes.legend(frameon=False, loc="upper left", ncols=2)
plt.show()

# %%
for name, found in squared.items():
    before, after = (
        sum(found[CHANGE - 200 : CHANGE]) / 200,
        sum(found[-200:]) / 200,
    )
    print(
        f"{name:8} last 200 steps before the change {before:.3f}, "
        f"of all {after:.3f}"
    )
    assert name == "cut" or max(before, after) < 0.34, (
        "better than answering 0 under both laws"
    )
ends = {name: sum(found[-200:]) for name, found in squared.items()}
assert ends["RTRL"] < 20, "RTRL ends below 0.1"
assert ends["RTRL"] < min(ends["UORO"], ends["cut"])

# %% [markdown]
# RTRL learns fastest, as its gradient is exact. SnAp-1 is not far behind. UORO learns too, but
# it needs more steps, since it has to average its noise away. The cut has a gradient for one step
# only. What it gets right it reads from what the state happens to hold.

# %% [markdown]
# ## Memory and time
#
# The carry of each rule has the same size at the first step and at the last. Backpropagation has to
# keep the states of all steps. How much it keeps is measured by looking at what torch saves for the
# backward pass.


# %%
def saved(num_steps: int) -> int:
    """Return how many numbers full BPTT keeps for its backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = max(
            kept.get(tensor.data_ptr(), 0), tensor.numel()
        )
        return tensor

    rnn = VanillaRNN(1, HIDDEN, gradient=Full())
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        rnn(torch.randn(num_steps, 1, 1))
    return sum(kept.values())


lengths = [100, 300, 1000, 3000, 10000]
bptt_keeps = [saved(length) for length in lengths]

assert bptt_keeps[-1] > 50 * bptt_keeps[0], (
    "BPTT's memory grows with the length"
)
assert kept["RTRL"][-1] == HIDDEN**2 * (HIDDEN + 1 + 1) + HIDDEN, (
    "the influence, and the state"
)

# %% tags=["draws"]
axes = style.blank(
    "BPTT's memory grows with the stream", "steps of the stream", "numbers kept"
)
axes.plot(lengths, bptt_keeps, color=style.PURPLE)
axes.text(
    lengths[-1], bptt_keeps[-1], "full BPTT ", color=style.PURPLE, ha="right"
)
for name in ("RTRL", "SnAp-1", "UORO"):
    sizes = kept[name]
    assert len(set(sizes[1:])) == 1, (
        f"{name} keeps as much at the last step as at the second"
    )
    axes.axhline(sizes[-1], color=COLOURS[name])
    place, side = (0.92, "top") if name == "SnAp-1" else (1.08, "bottom")
    axes.text(
        lengths[-1],
        sizes[-1] * place,
        name,
        color=COLOURS[name],
        ha="right",
        va=side,
    )
axes.set(xscale="log", yscale="log", ylim=(40, 4e5))
plt.show()


# %%
def milliseconds(
    strategy: GradientStrategy, hidden_size: int, steps: int = 20
) -> float:
    """Return the processor time of a step of learning, the best of 3 rounds."""
    online, rounds = learner(strategy, hidden_size), []
    for _ in range(3):
        begin = time.process_time()
        for _ in range(steps):
            online.learn_one(1.0, 0.5)
        rounds.append((time.process_time() - begin) / steps * 1e3)
    return min(rounds)


sizes, taken = [8, 32, 64, 128], {}
print("milliseconds  " + "".join(f"{f'H={size}':>8}" for size in sizes))
for name, strategy in {
    "RTRL": RTRL(),
    "UORO": UORO(),
    "SnAp-1": SnAp1(),
}.items():
    taken[name] = [milliseconds(strategy, size) for size in sizes]
    print(f"{name:14}" + "".join(f"{each:8.2f}" for each in taken[name]))

# %% tags=["draws"]
axes = style.blank(
    "RTRL is for small networks", "hidden units", "ms a step, on this machine"
)
for name, each in taken.items():
    axes.plot(sizes, each, "o-", color=COLOURS[name], label=name)
style.logarithmic(axes.yaxis, 1, 20)
style.powers_of_two(axes.xaxis, sizes)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## What to choose
#
# | you have | take |
# |---|---|
# | sequences that fit into memory | `Full()`: exact, and far cheaper than any online rule |
# | a stream, up to some 64 units | `RTRL()`: exact, with no cut anywhere |
# | a stream, more units | `SnAp1()` first: cheap and without noise |
# | what SnAp-1's bias cannot learn | `KFRTRL()` or `UORO()` with a small rate: unbiased |
# | a stream whose dependencies are known to be short | `Truncated(k)` in chunks |
#
# While the weights move, the influence that is carried is that of the older weights. That holds for
# every online rule, RTRL included, and is one more reason for small rates.
#
# ## Try
#
# 1. Raise the rate to 1e-2 (`rate=1e-2` in `learner`). Which rule suffers most, and why?
# 2. Let UORO alone learn with a rate of 5e-4 over a stream of 10,000 steps. Does it reach RTRL?
# 3. Add `"KF-RTRL": KFRTRL()` to the rules and give it a colour. Where does it lie, in error and in
#    time a step?
# 4. Take `learner(...).save("learner.pt")` halfway, go on with `lab.load_learner`, and compare the
#    errors with those of the learner that was not stopped.
#
# **More.** [Choosing a strategy](../choosing.md) has all rules with cost and claims.
# [A trained network at work](../trained.md) has learners and streams of a network that a run left.
