"""The composition root: from an experiment to the task and the network that learns it."""

import functools
from typing import Any, NamedTuple

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from bptt_lab.config.schema import Component, Experiment
from bptt_lab.core.random import generator
from bptt_lab.core.validation import ConfigError
from bptt_lab.nn.initialisation import initialise
from bptt_lab.nn.losses import LOSSES
from bptt_lab.nn.rnn import VanillaRNN
from bptt_lab.tasks.base import SequenceDataModule
from bptt_lab.training.measures import make_measures
from bptt_lab.training.module import SequenceModule
from bptt_lab.training.schedules import Constant


class Built(NamedTuple):
    """A task, and a network to learn it."""

    task: SequenceDataModule
    module: SequenceModule


def build(experiment: Experiment) -> Built:
    """Build the task and the network; nothing is drawn from global generators.

    Raises:
        ConfigError: for what a constructor refuses, by its full key.
    """
    model, seed = experiment.model, experiment.seed
    task: SequenceDataModule = make("dataset", experiment.dataset)
    embedding = None
    if model.embedding_size is not None:
        embedding = nn.Linear(task.input_size, model.embedding_size, bias=False)
        nn.init.normal_(embedding.weight, generator=generator(seed, "embedding"))
    rnn = VanillaRNN(
        model.embedding_size or task.input_size,
        model.hidden_size,
        num_layers=model.num_layers,
        nonlinearity=model.nonlinearity,
        bias=model.bias,
        dropout=model.dropout,
        leak=model.leak,
        gradient=make("gradient", experiment.gradient),
    )
    initialise(
        rnn,
        init=model.init,
        gain=model.gain,
        spectral_radius=model.spectral_radius,
        generator=generator(seed, "weights"),
        zero_bias=bool(model.zero_bias),
    )
    readout = nn.Linear(rnn.hidden_size, task.output_size)
    bound = rnn.hidden_size**-0.5  # nn.Linear's own
    for parameter in readout.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator(seed, "readout"))
    if model.zero_bias:
        nn.init.zeros_(readout.bias)
    make_optimizer = make("optimizer", experiment.optimizer, _partial_=True)
    schedule = make("schedule", experiment.schedule)
    changes = not isinstance(schedule, Constant) or schedule.warmup_steps > 0
    module = SequenceModule(
        rnn,
        readout,
        LOSSES[task.loss],
        task.score,
        make_optimizer,
        experiment.segment_length,
        embedding,
        experiment.trainer.ema_decay,
        functools.cache(task.codec),
        make_measures(experiment.metrics, task),
        schedule if changes else None,
    )
    try:
        module.configure_optimizers()
    except Exception as error:
        raise _refusal("optimizer", experiment.optimizer, error) from error
    return Built(task, module)


def make(key: str, component: Component, **how: Any) -> Any:
    """Make what a component describes; `key` is its section's, `how` is hydra's instantiate's.

    Raises:
        ConfigError: where the constructor refuses a setting.
    """
    try:
        return instantiate(component.section(), _convert_="all", **how)
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise ConfigError(f"{key}.{error.__cause__}") from error
        raise _refusal(key, component, error.__cause__ or error) from error


def _refusal(key: str, component: Component, error: BaseException) -> BaseException:
    """What to raise for a constructor's error: one line if the class is torch's or Lightning's."""
    if not component.target.startswith(("torch.", "lightning.")):
        return error
    problem = f"cannot be made ({' '.join(str(error).split())}); change its settings"
    return ConfigError(f"{key}._target_={component.target}: {problem}")
