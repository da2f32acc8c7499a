"""A window of chunks steps by the mean over what counted in it, whatever that is in each chunk."""

from __future__ import annotations

import pytest
import torch
from fleet_runs import QUIET, compared
from runs import config, job

from bptt_lab.tasks.echo import Echo
from bptt_lab.training.build import build
from bptt_lab.training.train import perform


class Patchy(Echo):
    """Some chunks of three steps count in part, some not at all, two of a window's among them."""

    def sequences(self, split, epoch):
        data = super().sequences(split, epoch)
        mask = torch.rand(data.mask.shape, generator=torch.Generator().manual_seed(epoch)) > 0.4
        for chunk in (0, 4, 6, 7, 8, 10):
            mask[3 * chunk : 3 * chunk + 3] = False
        return data._replace(mask=mask if split == "train" else data.mask)


PATCHY = (
    "dataset=echo", "dataset._target_=test_accumulation.Patchy", "allow=[test_accumulation]",
    "dataset.stream_length=33", "dataset.chunk_length=3", "dataset.batch_size=4",  # 11 chunks
    "trainer.precision=64-true", "optimizer=sgd", "optimizer.lr=0.3", "trainer.ema_decay=null",
    "trainer.accumulate_grad_batches=3",  # the last window has two chunks
)  # fmt: skip


def by_hand(experiment):
    """Sum the gradients of every chunk's losses, and step by their mean after each window."""
    task, module = build(experiment)
    module.double()
    optimizer = module.configure_optimizers()
    for epoch in range(2):
        data, carry, count = task.sequences("train", epoch), None, 0
        for number, begin in enumerate(range(0, 33, 3), 1):
            input, target, mask = (part[begin : begin + 3] for part in data)
            rule = module.rnn.gradient
            carry = rule.init_carry(module.rnn, 4) if carry is None else carry
            output, carry = rule.unroll(module.rnn, task.encode(input).double(), carry)
            losses = module.loss(module.read_out(output), target)
            torch.where(mask, losses, 0).sum().backward()
            count += int(mask.sum())
            if number % 3 == 0 or number == 11:
                for parameter in module.parameters():
                    parameter.grad /= max(count, 1)
                if count:
                    optimizer.step()
                optimizer.zero_grad()
                count = 0
    return module.state_dict()


@pytest.mark.parametrize("strategy", ["full", "rtrl"])
def test_a_run_steps_as_by_hand(strategy, tmp_path):
    experiment = config(*PATCHY, *QUIET, f"gradient={strategy}")
    perform(experiment, tmp_path, job())
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, expected in by_hand(experiment).items():
        torch.testing.assert_close(saved[name], expected, rtol=0, atol=1e-10)


def test_by_hand_the_first_window_has_the_gradient_through_all_its_chunks():
    task, module = build(config(*PATCHY, *QUIET, "gradient=rtrl"))
    module.double()
    data = task.sequences("train", 0)
    input, target, mask = (part[:9] for part in data)
    whole = task.encode(input).double()
    reference = torch.nn.RNN(whole.shape[-1], module.rnn.hidden_size).double()
    reference.load_state_dict(module.rnn.state_dict())
    losses = module.loss(module.readout(reference(whole)[0]), target)
    total = torch.where(mask, losses, 0).sum() / mask.sum()
    expected = torch.autograd.grad(total, [*reference.parameters()])
    carry = module.rnn.gradient.init_carry(module.rnn, 4)
    for begin in (0, 3, 6):
        part = slice(begin, begin + 3)
        output, carry = module.rnn.gradient.unroll(module.rnn, whole[part], carry)
        losses = module.loss(module.read_out(output), target[part])
        torch.where(mask[part], losses, 0).sum().div(mask.sum()).backward()
    for parameter, slope in zip(module.rnn.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, slope, rtol=0, atol=1e-10)


@pytest.mark.parametrize("strategy", ["full", "rtrl"])
def test_a_fleet_steps_as_alone(strategy, tmp_path):
    jobs = [(*PATCHY, *QUIET, f"gradient={strategy}", f"seed={seed}") for seed in range(2)]
    compared(tmp_path, jobs)
