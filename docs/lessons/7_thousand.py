# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   slow: true
#   kernelspec: {name: python3, display_name: Python 3}
# ---

# %% [markdown]
# # A thousand networks
#
# Train a network twice with other seeds, and it ends at another loss. So which of two methods is
# better? You will see
#
# * a thousand small networks, 500 for each of two strategies, trained at once in seconds;
# * how often a comparison with one seed for each would have named the wrong one;
# * how many seeds it takes.

# %%
import time

import matplotlib.pyplot as plt
import torch

from bptt_lab import VanillaRNN
from bptt_lab.gradients import GradientStrategy, Truncated
from bptt_lab.nn import Fleet
from bptt_lab.training import style

# %config InlineBackend.figure_formats = ["svg"]
torch.set_num_threads(1)
SEEDS, UPDATES, RATE = 500, 200, 1e-2
STEPS, BATCH, HIDDEN, DELAYS = 12, 16, 8, (1, 3)


# %% [markdown]
# ## The contest
#
# Random signs come in, 12 steps of them. At every step the mean of two earlier ones is asked for,
# $y_t = (x_{t-1} + x_{t-3}) / 2$. One strategy is full backpropagation, which for 12 steps is
# `Truncated(k=12)`. The other one cuts credit in the middle, `Truncated(k=6)`.
#
# A seed decides a network's first weights and all its data. Both strategies get the same 500 seeds.


# %%
def draw(seeds: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a batch for each seed: inputs (R, T, N, 1), what is due (R, T, N)."""
    random = torch.Generator().manual_seed(number)
    before = max(DELAYS)
    signs = (
        torch.randint(2, (seeds, before + STEPS, BATCH), generator=random) * 2.0
        - 1
    )
    due = sum(signs[:, before - d : before - d + STEPS] for d in DELAYS) / len(
        DELAYS
    )
    return signs[:, before:, :, None], due


def networks(strategy: GradientStrategy) -> list[VanillaRNN]:
    """Return 500 networks, the same ones for every strategy."""
    torch.manual_seed(0)
    return [VanillaRNN(1, HIDDEN, gradient=strategy) for _ in range(SEEDS)]


def squared(answers: torch.Tensor, due: torch.Tensor) -> torch.Tensor:
    """Return the squared error, over batch and steps with all inputs known."""
    known = slice(max(DELAYS), None)
    return (answers[..., known, :] - due[..., known, :]).square().mean((-2, -1))


# %% [markdown]
# `Fleet` holds the 500 networks of a strategy, with stacked weights. They share nothing: the sum of
# their losses gives each network its own gradient, and Adam steps each weight by itself.


# %%
def train(strategy: GradientStrategy) -> torch.Tensor:
    """Train 500 networks side by side; return their errors on new data."""
    fleet = Fleet.from_networks(networks(strategy))
    readout = torch.nn.Parameter(torch.zeros(SEEDS, HIDDEN, 1))
    adam = torch.optim.Adam([*fleet.parameters(), readout], RATE)

    def errors(number: int) -> torch.Tensor:
        x, due = draw(SEEDS, number)
        states = fleet(x)[0].flatten(1, 2)  # (R, T * N, H)
        return squared((states @ readout).view_as(due), due)

    for number in range(UPDATES):
        errors(number).sum().backward()
        adam.step()
        adam.zero_grad()
    with torch.no_grad():
        return torch.stack(
            [errors(10_000 + number) for number in range(20)]
        ).mean(0)


begin = time.process_time()
full = train(Truncated(k=12, mode="chunk"))
cut = train(Truncated(k=6, mode="chunk"))
together = (time.process_time() - begin) / (2 * SEEDS)
print(
    f"1,000 networks of {UPDATES} updates: "
    f"{2 * SEEDS * together:.1f} s of processor time"
)
for name, found in (("full", full), ("cut", cut)):
    print(
        f"{name:5} mean error {found.mean():.5f}, "
        f"standard deviation over seeds {found.std():.5f}"
    )

assert full.mean() < 0.01, "both learn: answering 0 has an error of 0.5"
assert cut.mean() < 0.01
assert full.mean() < cut.mean(), "with 500 seeds full BPTT is better"

# %% tags=["draws"]
axes = style.blank(
    "500 seeds each: the two overlap",
    "squared error on new sequences, x 1000",
    "networks",
)
edges = torch.linspace(
    0, 1e3 * float(torch.cat((full, cut)).quantile(0.99)), 40
)
for name, found, colour in (
    ("full", full, style.BLUE),
    ("cut at 6", cut, style.VERMILION),
):
    label = f"{name}, mean {1e3 * found.mean():.2f}"
    axes.hist(1e3 * found, edges, color=colour, alpha=0.55, label=label)
    axes.axvline(1e3 * found.mean(), color=colour, dashes=(4, 3))
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## What one seed would have told you
#
# Take one network of each strategy. How often has the worse strategy the better one? There are
# 500 times 500 such pairs. With the *same* seed for both there are 500: then both have the same
# first weights and the same data, and part of the luck is the same.

# %%
one = float((full[:, None] > cut).double().mean())
same = float((full > cut).double().mean())
print(
    f"wrong with one seed each: {one:.0%} of pairs; "
    f"with the same seed for both: {same:.0%}"
)

assert 0.1 < one < 0.5, "one seed each is wrong often"
assert same < one, "the same seed for both is wrong less often"

# %% [markdown]
# With n seeds one compares means. How often are those in the wrong order? Draw n of the 500 seeds,
# many times.

# %%
torch.manual_seed(0)
counts, DRAWS = (1, 2, 4, 8, 16, 32), 4000
wrong: dict[str, list[float]] = {"other seeds": [], "the same seeds": []}
for n in counts:
    first, second = torch.randint(SEEDS, (2, DRAWS, n))
    mean = full[first].mean(1)
    wrong["other seeds"].append(
        float((mean > cut[second].mean(1)).double().mean())
    )
    wrong["the same seeds"].append(
        float((mean > cut[first].mean(1)).double().mean())
    )

assert wrong["other seeds"][-1] < 0.5 * wrong["other seeds"][0]

# %% tags=["draws"]
axes = style.blank(
    "How often the wrong one wins",
    "seeds for each strategy",
    "wrong, % of comparisons",
)
for (name, shares), colour in zip(
    wrong.items(), (style.PURPLE, style.GREEN), strict=True
):
    axes.plot(
        counts,
        [100 * share for share in shares],
        "o-",
        color=colour,
        label=name,
    )
style.powers_of_two(axes.xaxis, counts)
axes.set(ylim=(0, 50))
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## How many seeds, when you do not have 500
#
# The bootstrap answers from your own n results: draw n of them with replacement, take the mean
# difference, do that a thousand times, and look at the middle 95 %. An interval on one side of zero
# says which strategy is better. It shrinks as $1/\sqrt{n}$: half the width takes four times the
# seeds. With five or ten results its width is a matter of luck, too, and may grow at first.


# %%
def interval(means: torch.Tensor) -> tuple[float, float]:
    """Return the middle 95 % of means."""
    low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def again(results: torch.Tensor) -> torch.Tensor:
    """Return the means of a thousand draws with replacement."""
    return results[torch.randint(len(results), (1000, len(results)))].mean(1)


torch.manual_seed(0)
seeds = (5, 10, 20, 40, 80, 160)
rows = [
    (
        interval(1e3 * (again(cut[-n:]) - again(full[:n]))),
        interval(1e3 * again((cut - full)[:n])),
    )
    for n in seeds
]

# %% tags=["draws"]
axes = style.blank(
    "More seeds, a narrower answer",
    "seeds for each strategy",
    "cut minus full, x 1000",
)
axes.axhline(0, color=style.GREY, linewidth=1)
named = (
    ("other seeds", style.PURPLE, 0.93),
    ("the same seeds", style.GREEN, 1.07),
)
for which, (name, colour, shift) in enumerate(named):
    low, high = zip(*(row[which] for row in rows), strict=True)
    axes.vlines(
        [n * shift for n in seeds],
        low,
        high,
        color=colour,
        linewidth=4,
        label=name,
    )
style.powers_of_two(axes.xaxis, seeds)
axes.legend(frameon=False)
plt.show()

# %%
for n, (other, paired) in zip(seeds, rows, strict=True):
    (low, high), (paired_low, paired_high) = other, paired
    print(
        f"{n:3} seeds: {low:.3f} to {high:.3f}, with the same seeds "
        f"{paired_low:.3f} to {paired_high:.3f}"
    )

widths = [[high - low for low, high in row] for row in rows]
assert widths[-1][0] < 0.6 * widths[2][0], (
    "eight times the seeds: about a third of the width"
)
assert widths[-1][1] < widths[-1][0], "the same seeds for both say more"
assert rows[-1][1][0] > 0, "with 160 pairs the interval is above zero"

# %% [markdown]
# ## Beside training one after another
#
# The same networks, each in a loop of its own. The results are the same; the time is not. Each
# of these small networks computes for a few microseconds a step. The rest is Python, autograd and
# the optimizer, which a fleet pays for once.

# %%
SOME = 4
data = [
    [part[:SOME] for part in draw(SEEDS, number)] for number in range(UPDATES)
]
tests = [
    [part[:SOME] for part in draw(SEEDS, 10_000 + number)]
    for number in range(20)
]
rnns = networks(Truncated(k=12, mode="chunk"))

begin, results = time.process_time(), []
for r in range(SOME):
    rnn, readout = rnns[r], torch.nn.Parameter(torch.zeros(HIDDEN, 1))
    adam = torch.optim.Adam([*rnn.parameters(), readout], RATE)
    for x, due in data:
        squared((rnn(x[r])[0] @ readout)[..., 0], due[r]).backward()
        adam.step()
        adam.zero_grad()
    with torch.no_grad():
        found = [
            squared((rnn(x[r])[0] @ readout)[..., 0], due[r])
            for x, due in tests
        ]
    results.append(torch.stack(found).mean())
alone = (time.process_time() - begin) / SOME

torch.testing.assert_close(
    torch.stack(results), full[:SOME], rtol=1e-2, atol=1e-6
)
print(
    "measured here, processor time for each network: "
    f"alone {1e3 * alone:.0f} ms, in the fleet "
    f"{1e3 * together:.1f} ms"
)
print(
    f"a thousand alone: {1000 * alone:.0f} s; "
    f"a thousand in fleets: {1000 * together:.0f} s"
)

# %% [markdown]
# A fleet saves most where networks are small. With hidden sizes above some 128 a step computes for
# milliseconds, and there is little to share.
#
# The same from the command line, with a folder, logs and checkpoints for each run:
#
#     bptt-train -m hydra/launcher=fleet dataset=adding gradient=truncated gradient.k=4,16 seed=0,1
#
# ## Try
#
# 1. Compare k = 12 with k = 4. How many seeds do you need now? And k = 12 with k = 11?
# 2. Compare medians in place of means. Does that help here? When would it?
# 3. Give both strategies a rate of 3e-2. Is the order the same? What have you compared, then?
# 4. You want to report "A is better than B". Which of the three pictures would you show?
#
# **More.** [Sweeps](../sweeps.md) has the launcher and what it saves, measured.
# [How claims are tested](../claims.md) says how this project reports results over seeds.
