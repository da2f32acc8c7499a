"""How many optimizer steps a job takes, known before it starts."""

import json
import math

from bptt_lab.config import signatures
from bptt_lab.config.schema import Component, Experiment


def count_steps(experiment: Experiment, lengths: dict[str, int]) -> int | None:
    """Most optimizer steps of a job, by its epochs and `max_steps`; None: by the clock alone."""
    trainer = experiment.trainer
    if trainer.max_epochs is None:
        return 1 if trainer.fast_dev_run else trainer.max_steps
    # The seed draws the data, and not how many there are.
    key = json.dumps({**experiment.dataset.section(), "seed": None}, sort_keys=True)
    if key not in lengths:
        lengths[key] = batches(experiment.dataset)
    steps = -(-lengths[key] // trainer.accumulate_grad_batches) * trainer.max_epochs
    steps = 1 if trainer.fast_dev_run else steps
    return steps if trainer.max_steps is None else min(steps, trainer.max_steps)


def batches(dataset: Component) -> int:
    """Batches of a training epoch; without torch, where the class says what they depend on."""
    plugin = signatures.read(dataset.target)
    shape = plugin.claims.get("train_shape") or (None, None)
    steps, sequences, size, chunk = (
        plugin.value(name, dataset.settings) for name in (*shape, "batch_size", "chunk_length")
    )
    if sequences and (steps or not chunk):
        chunks = -(-steps // chunk) if chunk else 1
        return int(chunks * math.ceil(sequences / size))
    from bptt_lab.training.build import make

    return len(make("dataset", dataset).train_dataloader())
