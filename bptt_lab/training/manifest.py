"""A run's manifest: where it ran and on what data; and the sha256 of tensors."""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version

import torch
from torch import Tensor

from bptt_lab.config.schema import Experiment
from bptt_lab.core import machine
from bptt_lab.core.kernels import core
from bptt_lab.runs.job import Job
from bptt_lab.tasks.base import SPLITS, SequenceDataModule

# What two runs must share to be one: its checkpoints know a run by the sum of these.
IDENTITY = ("config", "data_sha256", "versions", "threads", "processes", "device", "kernel")
PACKAGES = ("bptt_lab", "torch", "lightning", "hydra-core", "omegaconf", "tensorboard", "numpy")


def manifest(experiment: Experiment, job: Job, data_sha256: str) -> dict[str, object]:
    """Return what someone needs to know to get the same numbers again."""
    gpu = experiment.device.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    begun = {
        **job.manifest(experiment),
        "seed": experiment.seed,
        "data_sha256": data_sha256,
        "device": str(device),
        "processes": experiment.device.devices,
        "threads": experiment.threads,
        "processor": torch.cuda.get_device_name(device) if gpu else machine.processor(),
        "kernel": core.instruction_set() if device.type == "cpu" and core.available() else "torch",
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "git_commit": machine.git_commit(),
        "platform": platform.platform(),
    }
    same = json.dumps([begun[key] for key in IDENTITY], default=str)
    return {**begun, "id": hashlib.sha256(same.encode()).hexdigest()}


def fingerprint(task: SequenceDataModule) -> str:
    """Return the sha256 of a task's data: the first training epoch, validation and test.

    Of sequences of unequal lengths it is also of the batches that they make.
    """
    tensors = {}
    for split in SPLITS:
        for name, tensor in task.cached(split, 0)._asdict().items():
            tensors[f"{split}.{name}"] = tensor
    if task.unequal:
        tensors["train.order"] = torch.cat(task.train_dataloader().groups()[0])
    return parameter_hash(tensors)


def parameter_hash(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of named tensors: their names, types, shapes and bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
