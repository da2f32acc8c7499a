# ---
# jupyter:
#   slow: true
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {name: python3, display_name: Python 3}
# ---

# %% [markdown]
# # Your own network in Lightning
#
# A long sequence is trained in chunks, and the state goes from chunk to chunk. Lightning 1 had an
# option for that, `truncated_bptt_steps`. Lightning 2 has none. You will see
#
# * the error "Trying to backward through the graph a second time", what it means and its cure;
# * truncated backpropagation through time in a LightningModule, with nothing done by hand;
# * `VanillaRNN` in the place of `torch.nn.RNN`: what is the same, and what is not.

# %%
import logging
import warnings

import matplotlib.pyplot as plt
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from bptt_lab import VanillaRNN
from bptt_lab.diagnostics import credit_flow
from bptt_lab.gradients import RTRL, Carry, Full, GradientStrategy
from bptt_lab.training import style

# %config InlineBackend.figure_formats = ["svg"]
torch.set_num_threads(1)
logging.getLogger("lightning.pytorch").setLevel(
    logging.ERROR
)  # no list of devices in the page


# %% [markdown]
# ## Backward through the graph a second time
#
# A stream of 100 steps in chunks of 10, with `torch.nn.RNN`. The state of each chunk is handed to
# the next one.

# %%
torch.manual_seed(0)
stream = torch.randn(100, 1, 1)
theirs, state, done = nn.RNN(1, 8), None, 0
try:
    for chunk in stream.split(10):
        output, state = theirs(chunk, state)
        output.square().mean().backward()
        done += 1
except RuntimeError as error:
    print(f"after {done} chunk: {str(error)[:115]} ...")
    assert "backward through the graph a second time" in str(error)
assert done == 1

# %% [markdown]
# The state is not just numbers. It remembers the graph that made it, back to the first step. The
# second chunk's `backward()` follows that graph into the first chunk, whose intermediate results
# were freed by the first chunk's `backward()`. Hence the error.
#
# The message recommends `retain_graph=True`. **That is rarely what you want.** It keeps everything,
# and every backward pass goes through all chunks before. Counted in nodes of the graph:


# %%
def nodes(loss: Tensor) -> int:
    """Count the nodes of the graph that `loss.backward()` goes through."""
    found, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [each for each, _ in node.next_functions]
    return len(found)


def visited(detach: bool) -> list[int]:
    """Return the nodes of each chunk's backward pass."""
    state, counts = None, []
    for chunk in stream.split(10):
        output, state = theirs(chunk, state)
        loss = output.square().mean()
        counts.append(nodes(loss))
        loss.backward(retain_graph=not detach)
        state = state.detach() if detach else state
    return counts


attached, detached = visited(detach=False), visited(detach=True)

assert attached[-1] > 5 * detached[-1]
assert len(set(detached[1:])) == 1

# %% tags=["draws"]
axes = style.blank(
    "Without detach(), every chunk costs more",
    "chunk",
    "nodes that backward() visits",
)
chunks = range(1, len(attached) + 1)
axes.plot(chunks, attached, "o-", color=style.VERMILION)
axes.plot(chunks, detached, "o-", color=style.BLUE)
axes.text(
    5.8,
    attached[5],
    "retain_graph=True",
    color=style.VERMILION,
    ha="right",
    va="bottom",
)
axes.text(
    10,
    detached[-1] * 1.3,
    "state.detach()",
    color=style.BLUE,
    ha="right",
    va="bottom",
)
axes.set(xticks=[*chunks], ylim=(0, None))
plt.show()

# %% [markdown]
# With an optimizer step between chunks `retain_graph=True` fails too, since the old graph needs the
# old weights:

# %%
sgd = torch.optim.SGD(theirs.parameters(), 0.1)
state, refused = None, False
try:
    for chunk in stream.split(10):
        output, state = theirs(chunk, state)
        sgd.zero_grad()
        output.square().mean().backward(retain_graph=True)
        sgd.step()
except RuntimeError as error:
    print(f"{str(error)[:99]} ...")
    assert "modified by an inplace operation" in str(error)
    refused = True
assert refused

# %% [markdown]
# The cure is `state.detach()`: the state goes on, the credit ends. That *is* truncated
# backpropagation through time. `VanillaRNN.unroll` returns a carry that is detached already:

# %%
ours, carry = VanillaRNN(1, 8), None
for chunk in stream.split(10):
    output, carry = ours.unroll(chunk, carry)
    output.square().mean().backward()
assert not carry.hx.requires_grad

# %% [markdown]
# ## In a LightningModule
#
# A batch is a chunk: 16 streams side by side, some steps of each, and whether the streams begin
# here. Lightning does the rest, one optimizer step a batch. Optimisation stays automatic, so
# clipping, schedules and precision work as always. Validation has a carry of its own.
#
# The task: name the bit of 6 steps before.

# %%
DELAY, STREAMS, HIDDEN, CHUNKS = 6, 16, 12, 400
Batch = tuple[Tensor, Tensor, bool]
SILENT = (
    "logger",
    "enable_checkpointing",
    "enable_progress_bar",
    "enable_model_summary",
)
QUIET = {"accelerator": "cpu", "num_sanity_val_steps": 0} | dict.fromkeys(
    SILENT, False
)


def batches(chunk_length: int, seed: int, count: int = CHUNKS) -> list[Batch]:
    """Cut streams of bits into chunks: inputs, answers, whether they begin."""
    random = torch.Generator().manual_seed(seed)
    bits = torch.randint(
        2, (DELAY + count * chunk_length, STREAMS), generator=random
    )
    x, y = 2.0 * bits[DELAY:, :, None] - 1, bits[:-DELAY]
    cut = zip(x.split(chunk_length), y.split(chunk_length), strict=True)
    return [(x, y, index == 0) for index, (x, y) in enumerate(cut)]


class Echoer(LightningModule):
    """Learns from chunks of streams."""

    def __init__(
        self, gradient: GradientStrategy, carried: bool = True
    ) -> None:
        super().__init__()
        self.rnn = VanillaRNN(1, HIDDEN, gradient=gradient)
        self.readout = nn.Linear(HIDDEN, 2)
        self.carried = carried
        self.carry: dict[str, Carry] = {}
        self.losses: dict[str, list[float]] = {"train": [], "val": []}

    def loss(self, batch: Batch, split: str) -> Tensor:
        """Return the loss of a chunk, and keep the carry for the next one."""
        x, y, begins = batch
        carry = None if begins or not self.carried else self.carry[split]
        output, self.carry[split] = self.rnn.unroll(x, carry)
        loss = cross_entropy(self.readout(output).flatten(0, 1), y.flatten())
        self.losses[split].append(float(loss.detach()))
        return loss

    def training_step(self, batch: Batch, _: int) -> Tensor:
        return self.loss(batch, "train")

    def validation_step(self, batch: Batch, _: int) -> None:
        self.loss(batch, "val")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


def fit(
    gradient: GradientStrategy, chunk_length: int, carried: bool = True
) -> Echoer:
    """Train a new module with Lightning."""
    torch.manual_seed(0)
    model = Echoer(gradient, carried)
    # The order of chunks is the order of time: no shuffling, no batching.
    train, val = (
        DataLoader(batches(chunk_length, seed), batch_size=None)
        for seed in (0, 1)
    )
    trainer = Trainer(
        max_epochs=1, gradient_clip_val=1.0, limit_val_batches=40, **QUIET
    )
    with warnings.catch_warnings(
        action="ignore"
    ):  # Lightning would like more workers for the data
        trainer.fit(model, train, val)
    return model


# %% [markdown]
# Four ways to train the same network, for 400 chunks each. Only the arguments differ.

# %%
ways = {
    "20 steps, no carry": (fit(Full(), 20, carried=False), style.PURPLE),
    "5 steps": (fit(Full(), 5), style.VERMILION),
    "5 steps, RTRL": (fit(RTRL(), 5), style.GREEN),
    "20 steps": (fit(Full(), 20), style.BLUE),
}
final = {
    name: sum(model.losses["val"]) / 40 for name, (model, _) in ways.items()
}
for name in ways:
    print(f"chunks of {name:20} loss of validation {final[name]:.3f} nats")

assert final["20 steps"] < 0.1, (
    "credit reaches six steps back, and the state is carried"
)
assert final["5 steps, RTRL"] < 0.3, (
    "RTRL's carry holds influence: credit crosses the cut"
)
assert final["5 steps"] > 0.3, "the cut is nearer than the delay"
assert final["20 steps, no carry"] > 0.15, (
    "6 of 20 answers lie in the chunk before: 0.21 nats"
)

# %% tags=["draws"]
axes = style.blank(
    f"Chunks of 5 teach a delay of {DELAY} only with RTRL",
    "chunks seen",
    "training loss, nats",
)
for name, (model, colour) in ways.items():
    moving = torch.tensor(model.losses["train"]).unfold(0, 20, 1).mean(1)
    axes.plot(torch.arange(20, CHUNKS + 1), moving, color=colour, label=name)
axes.set(ylim=(0, 0.95), xlim=(0, CHUNKS))
axes.legend(frameon=False, loc="upper right", ncols=2)
plt.show()

# %% [markdown]
# * **No carry**: each chunk starts from zero. The first six answers of a chunk cannot be known.
# * **Chunks of 5**: the state is carried, but the gradient ends at the cut, before it has gone
#   back 6 steps.
# * **Chunks of 5 with RTRL**: one argument changes. Its carry holds the influence of the parameters
#   beside the state, so what lies before the cut counts.
# * **Chunks of 20**: most losses reach six steps back. What they teach holds for the others too.
#
# Lightning adds nothing to the numbers. A loop of your own has the same losses:

# %%
torch.manual_seed(0)
model = Echoer(Full())
adam = model.configure_optimizers()
for batch in batches(20, seed=0):
    adam.zero_grad()
    model.loss(batch, "train").backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
torch.testing.assert_close(
    model.losses["train"][:50], ways["20 steps"][0].losses["train"][:50]
)

# %% [markdown]
# ## From nn.RNN to VanillaRNN
#
# Names, shapes and defaults are `torch.nn.RNN`'s, and state dicts load both ways.

# %%
torch.manual_seed(0)
theirs = nn.RNN(3, 32, num_layers=2, dtype=torch.float64)
ours = VanillaRNN(3, 32, num_layers=2, dtype=torch.float64)
ours.load_state_dict(theirs.state_dict())
theirs.load_state_dict(ours.state_dict())

x, hx = torch.randn(40, 4, 3).double(), torch.randn(2, 4, 32).double()
lengths = [40, 31, 17, 5]
for rnn in (theirs, ours):
    packed, h_n = rnn(nn.utils.rnn.pack_padded_sequence(x, lengths), hx)
    (packed.data.square().sum() + h_n.sum()).backward()
torch.testing.assert_close(ours(x, hx), theirs(x, hx), rtol=1e-10, atol=1e-12)
for name, parameter in theirs.named_parameters():
    torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad)

# %% [markdown]
# | what differs | |
# |---|---|
# | `gradient=` | decides what `.backward()` means; full backpropagation by default |
# | `leak=` | stands in `bidirectional`'s place; two directions are two networks |
# | `nonlinearity=` | "identity" and "sigmoid" as well as "tanh" and "relu" |
# | `rnn(x, hx)` | as in torch; `rnn.unroll(x, carry)` is for chunks |
# | changing `output` in place | is refused; change `output.clone()` |
# | torch.func | needs `gradient=Autograd()` |
# | GRU, LSTM | there are none: the derivations here are for this recurrence |
#
# What `nn.RNN` cannot show is where the gradient goes in time. In the place of it you can ask:

# %%
readout = torch.randn(32, dtype=torch.float64)
flow = credit_flow(ours, x, lambda output: (output[-1] @ readout).sum())

assert flow.by_lag[0][20] < flow.by_lag[0][1] - 2, (
    "in a new network credit has vanished by 20 steps"
)

# %% tags=["draws"]
axes = style.blank(
    "In a new network credit fades step by step",
    "steps before the loss",
    "credit, log10",
)
for layer, colour in enumerate((style.BLUE, style.VERMILION)):
    axes.plot(flow.by_lag[layer], color=colour, label=f"layer {layer}")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Try
#
# 1. Set `DELAY = 3`. Which of the four ways changes most, and why?
# 2. Give the fourth way `Truncated(k=4, mode="lag")` for its gradient. What is its final loss?
# 3. Put `shuffle=True` into the DataLoader. Why does it fail, and why should it?
# 4. With RTRL, call `self.rnn(x, carry.hx)` in place of `self.rnn.unroll(x, carry)`. Read the
#    error: what would be lost?
#
# **More.** [In the place of nn.RNN](../dropin.md), [questions](../faq.md) and, for all rules,
# [choosing a strategy](../choosing.md).
# Lightning's users discuss the option that is gone in
# [#17848](https://github.com/Lightning-AI/pytorch-lightning/issues/17848) and
# [#19985](https://github.com/Lightning-AI/pytorch-lightning/issues/19985).
