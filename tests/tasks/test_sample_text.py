"""Passages in TensorBoard that cost training nothing."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from bptt_lab.core.random import generator
from bptt_lab.nn.losses import cross_entropy
from bptt_lab.nn.rnn import VanillaRNN
from bptt_lab.tasks.text import SampleText, Text, as_code, sample

PROSE = "abracadabra, hocus pocus!\n" * 20


class Writer(LightningModule):
    """A network whose training draws from the global generator, to notice who else does."""

    def __init__(self, size: int, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        torch.manual_seed(0)
        self.rnn = VanillaRNN(size, 12, num_layers=2, dropout=0.3)
        self.readout = nn.Linear(12, size)
        self.embedding = None
        self.modes: list[bool] = []

    def training_step(self, batch, batch_idx):
        self.modes.append(self.rnn.training)
        prediction = self.readout(self.rnn(batch.input)[0])
        return cross_entropy(prediction, batch.target).mean()

    def validation_step(self, batch, batch_idx):
        self.rnn(batch.input)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


@pytest.fixture
def task(tmp_path: Path) -> Text:
    path = tmp_path / "text.txt"
    path.write_text(PROSE)
    return Text(path=str(path), batch_size=4, chunk_length=8)


def fit(task: Text, logger, callbacks, epochs=2, lr=0.01, **kwargs) -> Writer:
    writer = Writer(task.input_size, lr)
    Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=logger,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **kwargs,
    ).fit(writer, datamodule=task)
    return writer


def passages(folder: Path) -> dict[int, str]:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    tag = "text/sample/text_summary"
    if tag not in events.Tags()["tensors"]:
        return {}
    return {e.step: e.tensor_proto.string_val[0].decode() for e in events.Tensors(tag)}


def test_training_is_bit_identical_with_and_without(task, tmp_path):
    results = []
    for callbacks in ([], [SampleText()]):
        logger = TensorBoardLogger(tmp_path, name=f"with{len(callbacks)}", version="")
        writer = fit(task, logger, callbacks, num_sanity_val_steps=2)
        results.append((writer.state_dict(), torch.get_rng_state()))
        assert all(writer.modes)
    (plain, rng), (sampled, rng_sampled) = results
    assert all(torch.equal(plain[name], sampled[name]) for name in plain)
    assert torch.equal(rng, rng_sampled)
    assert passages(tmp_path / "with0") == {}
    written = passages(tmp_path / "with1")
    per_epoch = len(task.train_dataloader())
    assert list(written) == [per_epoch, 2 * per_epoch]
    first, second = written.values()
    assert first != second
    for passage in (first, second):
        assert all(line.startswith("    ") for line in passage.split("\n"))


def test_a_passage_of_so_many_characters_an_epoch(task, tmp_path, monkeypatch):
    monkeypatch.setattr("bptt_lab.tasks.text.PASSAGE", 30)
    logger = TensorBoardLogger(tmp_path, name="run", version="")
    fit(task, logger, [SampleText()], epochs=2)
    written = passages(tmp_path / "run")
    per_epoch = len(task.train_dataloader())
    assert list(written) == [per_epoch, 2 * per_epoch]
    for passage in written.values():
        assert len("".join(line[4:] + "\n" for line in passage.split("\n"))) in (31, 32)


def test_draws_depend_on_seed_and_epoch_alone(task, tmp_path):
    task.seed = 5
    logger = TensorBoardLogger(tmp_path, name="run", version="")
    writer = fit(task, logger, [SampleText()], lr=0.0)  # the same network in every epoch
    draws = [generator(5, "sample", epoch) for epoch in (0, 1)]
    expected = [as_code(sample(writer, task, 400, draw)) for draw in draws]
    assert list(passages(tmp_path / "run").values()) == expected


def test_no_tensorboard_no_passage(task, tmp_path):
    fit(task, CSVLogger(tmp_path), [SampleText()], epochs=1)
    fit(task, False, [SampleText()], epochs=1)


def test_the_task_brings_it_along(task):
    (callback,) = task.callbacks()
    assert isinstance(callback, SampleText)


def test_sample_follows_the_network(task):
    """A readout that always wants one character writes only that one."""
    writer = Writer(task.input_size)
    nn.init.zeros_(writer.readout.weight)
    nn.init.zeros_(writer.readout.bias)
    with torch.no_grad():
        writer.readout.bias[task.vocabulary.index("p")] = 1000.0
    assert sample(writer, task, 20, generator(0, "sample")) == PROSE[0] + "p" * 20


def test_sample_draws_at_temperature_one(task):
    writer = Writer(task.input_size)
    nn.init.zeros_(writer.readout.weight)
    nn.init.zeros_(writer.readout.bias)
    with torch.no_grad():
        writer.readout.bias[task.vocabulary.index("p")] = 3.0
    passage = sample(writer, task, 3000, generator(0, "sample"))[1:]
    expected = torch.softmax(writer.readout.bias, 0)[task.vocabulary.index("p")].item()
    assert passage.count("p") / 3000 == pytest.approx(expected, abs=0.03)


def test_sample_carries_its_state(task):
    """Step by step equals the network run over the passage at once."""
    writer = Writer(task.input_size).eval()
    with torch.no_grad():
        writer.readout.weight.mul_(20)
        passage = sample(writer, task, 40, generator(3, "sample"))
        tokens = torch.tensor([task.vocabulary.index(c) for c in passage])
        output = writer.rnn(task.encode(tokens[:-1, None]))[0]
        chances = torch.softmax(writer.readout(output)[:, 0].double(), -1)
    draws = generator(3, "sample")
    again = [int(torch.multinomial(row, 1, generator=draws)) for row in chances]
    assert again == tokens[1:].tolist()


def test_sample_restores_the_mode_it_found(task):
    writer = Writer(task.input_size)
    writer.rnn.train()
    writer.readout.eval()
    sample(writer, task, 2, generator(0, "sample"))
    assert writer.rnn.training
    assert not writer.readout.training


def test_diverged_network_writes_what_it_can(task):
    writer = Writer(task.input_size)
    with torch.no_grad():
        writer.readout.bias[0] = float("nan")
    assert sample(writer, task, 20, generator(0, "sample")) == PROSE[0]


@pytest.mark.filterwarnings("ignore:html5lib:DeprecationWarning")  # TensorBoard's own, at import
@pytest.mark.parametrize(
    "passage",
    ["*a* _b_ **c**", "```\n# d\n```", "~~~\n1. e\r- f\x0c> g\u2028# h", "\n\n  i\n\n\nj"],
)
def test_markdown_leaves_a_passage_alone(passage):
    from tensorboard import plugin_util

    html = plugin_util.markdown_to_safe_html(as_code(passage))
    assert html.startswith("<pre><code>")
    assert html.rstrip().endswith("</code></pre>")
    assert html.count("<") == 4
    assert html[11:].split("</code>")[0].split() == passage.replace(">", "&gt;").split()


def test_double_precision(task):
    assert len(sample(Writer(task.input_size).double(), task, 5, generator(0, "sample"))) == 6
