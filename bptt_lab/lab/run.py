"""A run: what its folder holds, and what can be made of that."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bptt_lab import runs
from bptt_lab.config import schema
from bptt_lab.config.schema import Component
from bptt_lab.lab import figures, records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bptt_lab.gradients.base import GradientStrategy
    from bptt_lab.lab.diagnosis import Diagnosis
    from bptt_lab.nn.rnn import VanillaRNN
    from bptt_lab.tasks.base import SequenceBatch, SequenceDataModule
    from bptt_lab.training.module import SequenceModule

PROBE_SIZE = 8  # sequences, as callbacks.probe_size by default


class Run:
    """A run by its folder, read again at each look: it may be at work.

    It stands for its folder too, as in `lab.train(resume=run)` and `lab.load(run)`.

    Args:
        folder: where it writes.
        allow: packages beside this one whose classes it may name.
    """

    def __init__(self, folder: str | Path, allow: str | Iterable[str] = ()) -> None:
        self.folder = Path(folder).absolute()
        self.allow = schema.allowed(allow)

    @property
    def record(self) -> runs.Run:
        """All that its status.json, manifest.json and summary.json say."""
        return runs.read_run(self.folder)

    @property
    def status(self) -> str:
        """One of waiting, running, completed, failed, diverged, interrupted or unreadable."""
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
        """The network as a LightningModule with its loss, as `lab.load` reads it.

        Raises:
            ConfigError: where there is no checkpoint, or a damaged one.
        """
        from bptt_lab.lab.load import load
        from bptt_lab.training.module import SequenceModule

        return SequenceModule.of(load(self.folder, allow=self.allow).network)

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

    def diagnose(
        self, batch: "SequenceBatch | None" = None, **strategies: "GradientStrategy"
    ) -> "Diagnosis":
        """Have the instruments read the network: credit by lag, truncation, spectra, alignment.

        It is the network that training ended with, the moving average of trainer.ema_decay; the
        dashboard's curves are of the parameters that the optimizer moves.

        Args:
            batch: sequences with their targets; None for the first sequences of
                validation, which needs the run's data.
            strategies: whose gradients are compared with full BPTT's, as short=Truncated(k=4).

        Returns:
            Scalars and pictures by tag; docs/dashboard.md says what each is.
        """
        from bptt_lab.lab import diagnosis
        from bptt_lab.training.callbacks.probe import probe

        found = probe(self.task, PROBE_SIZE) if batch is None else batch
        return diagnosis.diagnose(self.module, found, strategies)

    @cached_property
    def task(self) -> "SequenceDataModule":
        """Its task, with its data.

        Raises:
            ConfigError: where its data are not there any more, and for a class not allowed.
        """
        from bptt_lab.config import targets
        from bptt_lab.training.build import make

        targets.refuse_foreign({"dataset": self.config["dataset"]}, self.allow)
        task: SequenceDataModule = make("dataset", Component.of(self.config["dataset"]))
        return task

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        record = self.record
        said = [f"{t} {v:.4g}" for t, v in record.metrics.items() if t.startswith("test/")]
        return f"Run({runs.shown(self.folder)}: {', '.join([record.status, *said])})"
