"""A run: what its folder holds, and what can be made of that."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bptt_lab import runs
from bptt_lab.lab import figures, records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bptt_lab.nn.rnn import VanillaRNN
    from bptt_lab.training.module import SequenceModule


class Diagnosis(NamedTuple):
    """What the instruments read of a network."""

    scalars: Mapping[str, float]  # by tag, as in docs/dashboard.md
    figures: Mapping[str, "Figure"]  # by tag


class Run:
    """A run by its folder, read again at each look: it may be at work.

    Attributes:
        folder: where it writes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()

    @property
    def record(self) -> runs.Run:
        """All that its status.json, manifest.json and summary.json say."""
        return runs.read_run(self.folder)

    @property
    def status(self) -> str:
        """Return waiting, running, completed, failed, diverged, interrupted or unreadable."""
        return self.record.status

    @property
    def reason(self) -> str:
        """Why it did not complete; empty where it did."""
        return self.record.reason

    @property
    def config(self) -> Mapping[str, Any]:
        """Its settings, as nested dicts."""
        return self.record.config

    @property
    def results(self) -> Mapping[str, float]:
        """Its final metrics by tag, as test/loss; empty before its end."""
        return self.record.metrics

    @property
    def references(self) -> Mapping[str, Mapping[str, float]]:
        """What trivial predictors reach on its test data, and known floors."""
        return self.record.references

    @property
    def parameters_sha256(self) -> str | None:
        """The sum of its final parameters: equal for equal bits."""
        return self.record.parameters_sha256

    def metrics(self) -> Any:
        """Return every scalar that it logged, by step.

        Returns:
            A pandas DataFrame with a column for each tag; without pandas a list of dicts.

        Raises:
            ConfigError: where metrics.jsonl is damaged.
        """
        return records.table(records.by_step(runs.read_metrics(self.folder)), "step")

    @cached_property
    def module(self) -> "SequenceModule":
        """The network with its readout, as training ended; see bptt_lab.lab.load."""
        raise NotImplementedError

    @property
    def rnn(self) -> "VanillaRNN":
        """Its recurrent network."""
        return self.module.rnn

    def plot(self, *tags: str) -> "Figure":
        """Draw scalars against steps.

        Args:
            tags: such as "val/accuracy"; none for the losses of training and validation.

        Raises:
            ConfigError: for a tag that the run did not log.
        """
        return figures.curves(self.folder.name, runs.read_metrics(self.folder), tags)

    def resume(self, *overrides: Any) -> "Run":
        """Continue it, as `lab.train(resume=folder)` does."""
        from bptt_lab.lab.start import train

        return train(*overrides, resume=self.folder)

    def __repr__(self) -> str:
        record = self.record
        said = [f"{t} {v:.4g}" for t, v in record.metrics.items() if t.startswith("test/")]
        return f"Run({runs.shown(self.folder)}: {', '.join([record.status, *said])})"
