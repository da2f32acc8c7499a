"""What a run is, for TensorBoard: hyperparameters, references, config and command."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer
from omegaconf import OmegaConf
from torch.utils.tensorboard.summary import hparams

from bptt_lab.config.schema import Experiment
from bptt_lab.runs import resume
from bptt_lab.runs.job import Job
from bptt_lab.training.callbacks.writers import tensorboard_writer, write_scalars

# Charts by title, and the patterns of their tags; of one run a chart has some five series.
CHARTS = {
    "Is it learning?": {
        "loss, beside what trivial predictors reach": "train/loss val/loss reference/.*_loss",
    },
    "Does the gradient vanish?": {
        "log10 of the credit that reaches d steps back": "credit_log10_at_lag/(?!001).*",
        "lag within which half, and nine tenths, of the gradient lie": "effective_lag/.*",
        "does a perturbation grow (> 0) or die (< 0)? nats a step": "recurrence/lyapunov_.*",
    },
    "Does the gradient explode?": {
        "norm of the gradient": "gradient_norm/total",
    },
    "What does truncation at k cost?": {
        "cosine of the lag-k gradient with the full one": "truncation/cosine_.*",
    },
    "Which strategy points right?": {
        "cosine with full BPTT": "alignment/cosine_.*",
    },
}
LAYOUT = {
    title: {name: ["Multiline", tags.split()] for name, tags in charts.items()}
    for title, charts in CHARTS.items()
}


class RunCard(Callback):
    """Write the run's card when training starts, and close it when training ends.

    The HParams tab shows the settings beside the final metrics, which are ordinary scalars
    registered here by name. References become flat lines `reference/<predictor>_<metric>`.

    Args:
        experiment: what is run.
        job: who asked for it, by which command.
        references: what trivial predictors reach, by name and metric.
        swept: the keys that tell the run from others of its sweep, which are then the only
            hyperparameters; of a run by itself all settings are, those that were given first.
    """

    def __init__(
        self,
        experiment: Experiment,
        job: Job,
        references: Mapping[str, Mapping[str, float]],
        swept: Sequence[str] = (),
    ) -> None:
        plain = experiment.plain()
        self.config = OmegaConf.to_yaml(plain)
        del plain["callbacks"]
        self.hyperparameters = settings = dict(flat_settings(plain, job.choices))
        given = swept or [line.lstrip("+").partition("=")[0] for line in job.overrides]
        first = [k for key in given for k in settings if k == key or k.startswith(f"{key}.")]
        names = first if swept and first else [*first, *settings]
        self.settings = {name: settings[name] for name in dict.fromkeys(names)}
        self.command = job.command
        metrics = next(iter(references.values()))
        tags = (*metrics, *(experiment.metrics or ()))
        self.metrics = {f"{stage}/{name}": 0.0 for stage in ("val", "test") for name in tags}
        self.references = {
            f"reference/{name.replace(' ', '_')}_{metric}": value
            for name, values in references.items()
            for metric, value in values.items()
        }

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Register the hyperparameters; write texts and the references' first points."""
        if trainer.global_step:  # a continued run; it is all there
            return
        write_scalars(trainer, self.references, 1)
        if writer := tensorboard_writer(trainer):
            writer.add_text("run/config", f"```yaml\n{self.config}\n```", 1)
            writer.add_custom_scalars(LAYOUT)
            writer.add_text("run/command", f"```\n{self.command}\n```", 1)
            for message in self._session()[:2]:
                writer._get_file_writer().add_summary(message)  # type: ignore[no-untyped-call]

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Write the references' last points and mark the hyperparameters' session as done."""
        write_scalars(trainer, self.references, trainer.global_step)
        if writer := tensorboard_writer(trainer):
            end = self._session()[2]
            writer._get_file_writer().add_summary(end)  # type: ignore[no-untyped-call]

    def _session(self) -> Any:
        """The HParams plugin's three messages: what there is, a start, an end. No values."""
        return hparams(self.settings, self.metrics)  # type: ignore[no-untyped-call]


def flat_settings(
    settings: Mapping[str, object], choices: Mapping[str, str]
) -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield settings as dotted keys and plain values, each group's choice under its name."""
    yield from choices.items()
    for key, value in resume.flat(settings):
        if value is not None and key.rpartition(".")[2] != "_target_":
            yield key, value if isinstance(value, bool | int | float | str) else str(value)
