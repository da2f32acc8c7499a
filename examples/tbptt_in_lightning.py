"""Truncated BPTT in your own LightningModule: a dozen lines, and the state carried along.

python examples/tbptt_in_lightning.py [FOLDER FOR FIGURES]
"""

# %% [markdown]
# `VanillaRNN` takes torch.nn.RNN's arguments and one more: `gradient=`. Nothing else changes; the
# loss is differentiated as ever, and clipping, accumulation and many GPUs work as ever.

# %%
import logging
import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from bptt_lab import VanillaRNN
from bptt_lab.gradients import Carry, Truncated
from bptt_lab.tasks.echo import echo
from bptt_lab.training import naming, style

torch.set_num_threads(1)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures"
folder.mkdir(parents=True, exist_ok=True)
CHUNK, CHUNKS = 20, 600


# %% [markdown]
# The essential part. A batch is a chunk of parallel streams. The carry hands the state to the next
# chunk, detached: the *state* goes on, the *credit* ends. Inside a chunk the strategy decides.


# %%
class Echoer(LightningModule):
    """Answers a stream of bits, learning with a truncation lag of k steps."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.rnn = VanillaRNN(1, 4, gradient=Truncated(k=k, mode="lag"))
        self.readout = nn.Linear(4, 2)
        self.carry: Carry | None = None
        self.losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Learn from one chunk."""
        x, y = batch
        output, self.carry = self.rnn.unroll(x, self.carry)
        loss = cross_entropy(self.readout(output).flatten(0, 1), y.flatten())
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as ever."""
        return torch.optim.Adam(self.parameters(), 5e-3)


# %% [markdown]
# The task: P(y_t = 1) = 0.5 + 0.5 x_{t-3} - 0.25 x_{t-8}. Who learns neither lag reaches 0.6616
# nats, lag 3 alone (as much as four units hold) 0.5192, both 0.4545. Lag 3 needs k = 4 or more, the
# loss's own step included; with less, one lives on what an untrained state happens to remember.


# %%
bits, answers = echo(CHUNK * CHUNKS, 64, torch.Generator().manual_seed(0))  # time first
chunks = [*zip(bits[..., None].float().split(CHUNK), answers.split(CHUNK), strict=True)]


def train(k: int) -> list[float]:
    """Return the loss of every chunk."""
    seed_everything(0, verbose=False)
    model = Echoer(k)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    with warnings.catch_warnings(action="ignore"):  # Lightning would rather have more workers
        trainer.fit(model, DataLoader(chunks, batch_size=None))
    return model.losses


# %%
figure = Figure(figsize=(style.ACROSS, 3.6), layout="constrained")
axes = figure.subplots(subplot_kw={"frame_on": False})
for name, floor in (("nothing", 0.6616), ("lag 3", 0.5192), ("lags 3 and 8", 0.4545)):
    axes.axhline(floor, color="#666666", linewidth=1, dashes=(4, 3), label=f"{name} learnt")
for k, colour in ((1, style.PURPLE), (2, style.VERMILION), (5, style.BLUE)):
    smooth = torch.tensor(train(k)).unfold(0, 40, 1).mean(1)
    print(f"k = {k:2}: {float(smooth[-1]):.4f} nats, mean of the last 40 chunks")
    axes.plot(torch.arange(len(smooth)) + 40, smooth, color=colour, linewidth=1.8, label=f"k = {k}")
axes.set(xlabel="chunks seen", ylabel="cross-entropy, nats", xlim=(0, CHUNKS), ylim=(0.43, 0.72))
axes.set_title("What a truncation lag of k can learn", loc="left", fontweight="bold")
naming.name_lines(axes)
figure.savefig(folder / "tbptt_in_lightning.png", dpi=150)
