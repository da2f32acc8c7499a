"""The module's carry, its means and its refusal to step on nothing."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from lightning.pytorch import Trainer
from runs import QUICK, config, quick_run, state_dict
from torch import nn

from bptt_lab.nn.losses import cross_entropy
from bptt_lab.nn.rnn import VanillaRNN
from bptt_lab.tasks.base import SequenceBatch, SequenceDataModule, Sequences
from bptt_lab.training.build import build
from bptt_lab.training.module import SequenceModule


class Counting(SequenceDataModule):
    """Whatever came in one step before, from sequences whose chunks all count."""

    stream: ClassVar[bool] = False
    input_size, output_size, loss = 2, 2, "cross_entropy"

    def __init__(self, *, num_steps=12, chunk_length=5, last_step_only=False):
        super().__init__(batch_size=3, chunk_length=chunk_length, seed=0)
        self.num_steps, self.last_step_only = num_steps, last_step_only

    def sequences(self, split, epoch):
        bits = torch.randint(2, (self.num_steps, 7), generator=torch.Generator().manual_seed(1))
        mask = torch.ones(self.num_steps, 7, dtype=torch.bool)
        if self.last_step_only:
            mask[:-1] = False
        return Sequences(nn.functional.one_hot(bits, 2).float(), bits.roll(1, 0), mask)

    def score(self, prediction, target):
        return {"accuracy": (prediction.argmax(-1) == target).float()}

    def references(self):
        return {"chance": {"loss": 0.7, "accuracy": 0.5}}


def make_module(optimizer=torch.optim.SGD, lr=0.0) -> SequenceModule:
    torch.manual_seed(0)
    rnn, readout = VanillaRNN(2, 4), nn.Linear(4, 2)
    score = Counting().score
    return SequenceModule(rnn, readout, cross_entropy, score, lambda p: optimizer(p, lr=lr))


def trainer(tmp_path, **kwargs) -> Trainer:
    settings = {"max_epochs": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 0}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(
        default_root_dir=tmp_path, accelerator="cpu", enable_checkpointing=False,
        **settings | quiet | kwargs,
    )  # fmt: skip


class Watch(SequenceModule):
    """Keep the carry that every batch begins with."""

    def carry_before(self, batch):
        carry = super().carry_before(batch)
        self.seen.append((self.trainer.state.stage.value, batch.is_first, carry.hx.clone()))
        return carry


def test_carry_crosses_chunks_and_resets_with_the_sequences(tmp_path):
    module = make_module()
    module.__class__, module.seen = Watch, []
    task = Counting()
    trainer(tmp_path).fit(module, datamodule=task)
    sequences = task.sequences("train", 0)
    for stage in ("train", "validate"):
        seen = [(first, hx) for name, first, hx in module.seen if name == stage]
        assert [first for first, _ in seen] == [True, False, False] * 3
        for first, hx in seen:
            assert (hx == 0).all() == first
    # The carry of the second chunk is the state after the first five steps.
    begins = [hx for name, first, hx in module.seen if name == "validate" and not first]
    _, h_n = module.rnn(sequences.input[:5, :3])
    torch.testing.assert_close(begins[0], h_n)
    _, h_n = module.rnn(sequences.input[:10, :3])
    torch.testing.assert_close(begins[1], h_n)


def test_validation_leaves_the_training_carry_alone(tmp_path):
    """A validation in the middle of sequences must not change what training sees."""

    def parameters(**kwargs):
        module = make_module(lr=0.5)
        trainer(tmp_path, **kwargs).fit(module, datamodule=Counting())
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    assert torch.equal(parameters(val_check_interval=1), parameters(limit_val_batches=0))


def test_evaluation_means_weigh_ragged_chunks_by_what_counts(tmp_path):
    module, task = make_module(), Counting()  # chunks of 5, 5 and 2 steps; batches of 3, 3 and 1
    trainer(tmp_path).validate(module, datamodule=task, verbose=False)
    sequences = task.sequences("val", 0)
    output, _ = module.rnn(sequences.input)
    losses = cross_entropy(module.readout(output), sequences.target)
    measured = module.trainer.callback_metrics["val/loss"]
    torch.testing.assert_close(measured, losses.mean())


def test_no_step_where_nothing_counts(tmp_path):
    """Chunks of a last-step task before the last have no gradient; Adam must not drift on."""
    steps = []

    class Recording(torch.optim.Adam):
        def step(self, closure=None):
            result = super().step(closure)
            steps.append(sum(float(p.grad.abs().sum()) for g in self.param_groups
                             for p in g["params"]))  # fmt: skip
            return result

    module = make_module(Recording, 0.01)
    trainer(tmp_path, limit_val_batches=0).fit(module, datamodule=Counting(last_step_only=True))
    assert len(steps) == 3  # one for each batch of sequences, not one a chunk
    assert min(steps) > 0


def test_accumulation_steps_when_any_of_its_chunks_counted(tmp_path):
    module = make_module(torch.optim.SGD, 1.0)
    before = [p.detach().clone() for p in module.parameters()]
    task = Counting(last_step_only=True)
    task.chunk_length = 6  # two chunks: nothing, then the loss
    trainer(tmp_path, limit_val_batches=0, accumulate_grad_batches=2).fit(module, datamodule=task)
    assert any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


class Batches:
    """A loader; Lightning takes a list for several of them."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


COUNTS = {  # in how many steps of every batch the losses count
    "a shorter last window": (6, 6, 6),
    "unequal shares": (6, 2, 1, 5, 3),
    "chunks of nothing": (0, 4, 3, 0, 0, 0, 0, 2),
    "nothing at its end": (4, 1, 0, 0, 2),
}


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_a_window_steps_as_its_one_big_batch(tmp_path, counts, window):
    torch.manual_seed(0)
    module = make_module(torch.optim.SGD, 0.5).double()
    twin = make_module().double()
    batches = []
    for count in counts:
        mask = (torch.arange(6) >= 6 - count)[:, None].expand(6, 3)
        input, target = torch.randn(6, 3, 2, dtype=torch.float64), torch.randint(2, (6, 3))
        batches.append(SequenceBatch(input, target, mask, True))
    for begin in range(0, len(batches), window):
        parts = zip(*batches[begin : begin + window], strict=True)
        *tensors, _ = (torch.cat(part, 1) if torch.is_tensor(part[0]) else True for part in parts)
        if not tensors[2].any():
            continue
        batch = SequenceBatch(*tensors, True)
        total, _ = twin.loss_sum(twin.rnn(batch.input)[0], batch)
        slopes = torch.autograd.grad(total / batch.mask.sum(), list(twin.parameters()))
        with torch.no_grad():
            for parameter, slope in zip(twin.parameters(), slopes, strict=True):
                parameter -= 0.5 * slope
    settings = {"accumulate_grad_batches": window, "precision": "64-true", "limit_val_batches": 0}
    trainer(tmp_path, **settings).fit(module, Batches(batches), Batches([]))
    for ours, expected in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


def test_chunked_gradients_are_truncated_and_not_lost(tmp_path):
    whole = build(config(*QUICK)).module
    batch = SequenceBatch(torch.randn(6, 2, 1), torch.zeros(6, 2, dtype=torch.long),
                          torch.ones(6, 2, dtype=torch.bool), True)  # fmt: skip
    output, carry = whole.rnn.gradient.unroll(whole.rnn, batch.input, whole.carry_before(batch))
    assert not carry.hx.requires_grad
    total, prediction = whole.loss_sum(output, batch)
    assert prediction.shape == (6, 2, 10)
    torch.testing.assert_close(total, cross_entropy(prediction, batch.target).sum())


@pytest.mark.parametrize("chunk_length", [7, 64])
def test_chunk_length_decides_how_often_the_optimizer_steps(chunk_length, tmp_path):
    summary = quick_run(
        tmp_path, "dataset=adding", f"dataset.chunk_length={chunk_length}", "optimizer.lr=0.01"
    )
    assert summary["steps"] > 0
    assert all(t.isfinite().all() for t in state_dict(tmp_path).values())


def test_every_step_of_every_process_has_a_draw_of_its_own():
    batch = SequenceBatch(
        torch.zeros(3, 2, 2), torch.zeros(3, 2).long(), torch.ones(3, 2).bool(), True
    )
    drawn = []
    for step, rank in itertools.product(range(4), range(3)):
        module = make_module()
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=step))
        module.trainer = SimpleNamespace(world_size=3, global_rank=rank, fit_loop=loop)
        module.training_step(batch, 0)
        drawn.append(module.carry.draw - 1)  # the next one is in the carry
    assert drawn == [*range(12)]
