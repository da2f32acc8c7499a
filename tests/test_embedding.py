"""A table of vectors in front of the network, trained by the strategy's gradient of the input."""

from __future__ import annotations

import pytest
import torch
from runs import QUICK, config, quick_run, state_dict
from torch import nn

from bptt_lab.commands.compare.batch import prepare
from bptt_lab.core.validation import ConfigError
from bptt_lab.training.build import build

PROSE = "abracadabra, hocus pocus!\n" * 40


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(PROSE)
    return (
        "dataset=text", f"dataset.path={path}", "dataset.batch_size=4", "dataset.chunk_length=9",
        "model.embedding_size=3",
    )  # fmt: skip


def by_torch(module, batch, k=None):
    """Gradients of the mean loss, of nn.Embedding, nn.RNN and nn.Linear; cut before the last k."""
    embedding = nn.Embedding.from_pretrained(module.embedding.weight.T.clone(), freeze=False)
    rnn = nn.RNN(3, module.rnn.hidden_size).double()
    rnn.load_state_dict(module.rnn.state_dict())
    readout = nn.Linear(rnn.hidden_size, module.readout.out_features).double()
    readout.load_state_dict(module.readout.state_dict())
    input, hx, total = embedding(batch.input.argmax(-1)), None, 0.0
    k = k or len(input)
    for piece, target in zip(input.split(k), batch.target.split(k), strict=True):
        output, hx = rnn(piece, hx)
        hx = hx.detach()
        total = total + nn.functional.cross_entropy(
            readout(output).flatten(0, 1), target.flatten(), reduction="sum"
        )
    (total / batch.mask.sum()).backward()
    found = {f"rnn.{name}": p.grad for name, p in rnn.named_parameters()}
    found |= {f"readout.{name}": p.grad for name, p in readout.named_parameters()}
    return found | {"embedding.weight": embedding.weight.grad.T}


@pytest.mark.parametrize(
    ("strategy", "k"),
    [
        (["gradient=full"], None),
        (["gradient=checkpointed"], None),
        (["gradient=autograd"], None),
        (["gradient=truncated", "gradient.k=3", "gradient.mode=chunk"], 3),
    ],
)
def test_gradient_is_torchs_own(text, strategy, k):
    task, module = build(config(*QUICK, *text, *strategy))
    module.double()
    batch = next(iter(task.train_dataloader()))
    batch = batch._replace(input=batch.input.double())
    output, _ = module.rnn.gradient.unroll(
        module.rnn, module.embed(batch.input), module.carry_before(batch)
    )
    (module.loss_sum(output, batch)[0] / batch.mask.sum()).backward()
    expected = by_torch(module, batch, k)
    found = {name: p.grad for name, p in module.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-12)


def test_it_learns_and_being_watched_leaves_no_trace(text, tmp_path, unpainted):
    lines = (*text, "callbacks=default", "callbacks.every_n_steps=20")
    whole = quick_run(tmp_path / "whole", *lines, "trainer.max_epochs=2")
    start = build(config(*QUICK, *lines)).module.embedding.weight
    assert not torch.equal(state_dict(tmp_path / "whole")["embedding.weight"], start)
    other = build(config(*QUICK, *lines, "seed=1")).module.embedding.weight
    assert not torch.equal(other, start)
    again = quick_run(tmp_path / "again", *text, "trainer.max_epochs=2")
    assert again["parameters_sha256"] == whole["parameters_sha256"]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("segment_length=4", "segment_length=4: cannot train an embedding"),
        *[
            (f"gradient={name}", "model.embedding_size=3: must be null, since ")
            for name in ("rtrl", "snap1", "rflo", "uoro", "kf_rtrl")
        ],
    ],
)
def test_who_cannot_train_it_is_refused_from_the_config(text, setting, problem):
    with pytest.raises(ConfigError, match=problem):
        config(*QUICK, *text, setting)


def test_compare_sees_what_the_network_reads(text):
    module, batch, _ = prepare(config(*QUICK, *text), None)
    assert batch.input.shape[-1] == module.rnn.input_size == 3
