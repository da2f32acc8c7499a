"""The command `bptt-search`: `bptt-train` with a sweeper that chooses the jobs."""

from collections.abc import Sequence

from bptt_lab.commands import command
from bptt_lab.commands.train import cli

CHOSEN = ("hydra.mode=MULTIRUN", "hydra/sweeper=search")
INTRODUCTION = """\
Search for settings: a sweep of bptt-train whose jobs Optuna chooses, by the results so far.

  bptt-search 'optimizer.lr=tag(log,interval(1e-4,1e-1))'
  bptt-search gradient=full,truncated 'gradient.k=range(1,33)'
  bptt-search model.hidden_size=32,64,128 hydra.sweeper.n_trials=40
  bptt-search 'model.leak=interval(0.1,1)' hydra.sweeper.metric=val/accuracy \\
              hydra.sweeper.direction=maximize

Each trial is an ordinary job of an ordinary sweep. resume=SWEEP_FOLDER continues a search."""


@command.named("bptt-search")
def main(argv: Sequence[str] | None = None) -> int:
    """Search the space that the command line describes."""
    return cli.train("bptt-search", INTRODUCTION, argv, *CHOSEN)
