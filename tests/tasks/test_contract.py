"""What every task promises, for every file in conf/dataset, and every allowed package."""

import inspect
import json
import math
from pathlib import Path

import installed
import pytest
import torch
from constructors import parameters
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from bptt_lab.commands.train import steps
from bptt_lab.config.schema import Component
from bptt_lab.nn.losses import LOSSES
from bptt_lab.tasks.base import SequenceDataModule
from bptt_lab.tasks.codec import Codec
from tasks.predictors import CONF
from tasks.samples import SAMPLES

NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
SPLITS = ("train", "val", "test")


BROUGHT = installed.sections("dataset")


@pytest.fixture(params=[*NAMES, *BROUGHT])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict:
    if request.param in NAMES:
        settings = OmegaConf.load(CONF / f"{request.param}.yaml")
    else:
        settings = BROUGHT[request.param].copy()
    settings.seed = 0
    if "train_size" in settings:  # of a task that makes its sequences
        settings.train_size = settings.val_size = settings.test_size = 200
    if request.param in SAMPLES:
        settings.path = str(SAMPLES[request.param](tmp_path))
    if request.param == "mnist1d":
        pytest.importorskip("mnist1d")
    return settings


@pytest.fixture
def task(settings: dict) -> SequenceDataModule:
    return instantiate(settings, _convert_="all")


def test_glob_finds_the_tasks() -> None:
    drawn = {"adding", "chaos", "copy_memory", "digits", "echo", "mackey_glass", "mnist1d"}
    assert drawn | set(SAMPLES) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_says_what_the_constructor_says(name: str) -> None:
    settings = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=False)
    found = parameters(get_class(settings.pop("_target_")))
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in found.values())
    assert settings.pop("seed") == "${seed}"
    assert found.pop("seed").default == 0
    defaults = {key: parameter.default for key, parameter in found.items()}
    listed = {key: list(d) if isinstance(d, tuple) else d for key, d in defaults.items()}
    assert settings == listed


def test_the_length_of_an_epoch_is_known_beforehand(settings: dict) -> None:
    for chunk_length in (None, 7):
        settings.chunk_length = chunk_length
        known = steps.batches(Component.of(OmegaConf.to_container(settings)))
        assert known == len(instantiate(settings, _convert_="all").train_dataloader())


@pytest.mark.parametrize("split", SPLITS)
def test_sequences(task: SequenceDataModule, split: str) -> None:
    input, target, mask = task.sequences(split, 0)
    num_steps, num_sequences = mask.shape
    assert mask.dtype == torch.bool
    assert mask.any()
    assert input.shape[:2] == target.shape[:2] == mask.shape
    encoded = task.encode(input[:5, :3])
    assert encoded.shape == (min(5, num_steps), min(3, num_sequences), task.input_size)
    assert encoded.dtype == torch.float32
    assert encoded.isfinite().all()
    if task.loss in ("mse", "binary_cross_entropy"):
        assert target.shape == (num_steps, num_sequences, task.output_size)
        assert target.dtype == torch.float32
        assert target.isfinite().all()
        assert task.loss == "mse" or set(target.unique().tolist()) == {0, 1}
    else:
        assert target.dtype == torch.long
        assert target.min() >= 0
        assert target.max() < task.output_size


@pytest.mark.parametrize("split", SPLITS)
def test_sequences_are_a_function_of_settings_split_and_epoch(settings: dict, split: str) -> None:
    task = instantiate(settings, _convert_="all")
    before = torch.get_rng_state()
    first = task.sequences(split, 0)
    later = task.sequences(split, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    other = instantiate(settings, _convert_="all")
    assert all(map(torch.equal, other.sequences(split, 3), later))
    assert all(map(torch.equal, other.sequences(split, 0), first))


def test_loss_and_score_are_of_every_element(task: SequenceDataModule) -> None:
    batch = next(iter(task.val_dataloader()))
    draws = torch.Generator().manual_seed(1)
    prediction = torch.randn(*batch.mask.shape, task.output_size, generator=draws)
    values = {"loss": LOSSES[task.loss](prediction, batch.target)}
    values |= task.score(prediction, batch.target)
    assert len(values) > 1
    for value in values.values():
        assert value.shape == batch.mask.shape
        assert value.is_floating_point()
        assert value.isfinite().all()


def test_references(task: SequenceDataModule) -> None:
    references = task.references()
    batch = next(iter(task.test_dataloader()))
    metrics = task.score(torch.zeros(*batch.mask.shape, task.output_size), batch.target)
    assert "loss" in next(iter(references.values()))
    for values in references.values():
        assert values.keys() <= {"loss", *metrics}
        assert all(isinstance(value, float) and math.isfinite(value) for value in values.values())


def test_loaders_give_all_of_it(task: SequenceDataModule) -> None:
    task.chunk_length = 7
    loader = task.val_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader)
    counted = sum(int(batch.mask.sum()) for batch in batches)
    assert counted == int(task.sequences("val", 0).mask.sum())
    assert {batch.input.shape[-1] for batch in batches} == {task.input_size}
    if task.stream:
        windows = -(-task.sequences("val", 0).mask.shape[1] // task.batch_size)
        assert batches[0].is_first and sum(batch.is_first for batch in batches) == windows


def test_a_codec_is_plain_data_and_fits_the_task(task: SequenceDataModule) -> None:
    codec = task.codec()
    assert Codec.of(json.loads(json.dumps(codec.plain()))) == codec
    assert (codec.input_size, codec.output_size) == (task.input_size, task.output_size)
    assert codec.at_end == (task.cached("test", 0).mask.sum(0).max() == 1)
    assert len(codec.symbols) in (0, task.input_size)
    assert len(codec.classes) in (0, task.output_size)
    output = torch.eye(task.output_size)
    answers = codec.answers(output)
    assert len(answers) == task.output_size
    if codec.names_classes:
        assert len(set(answers.tolist())) == task.output_size
