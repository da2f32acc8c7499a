"""The moving average of the parameters is what is validated, tested, saved and kept."""

from __future__ import annotations

import json

import pytest
import torch
from lightning.pytorch import Callback
from runs import config, job, quick_run, resumed, state_dict
from test_module import Counting, make_module, trainer

from bptt_lab.core.validation import ConfigError
from bptt_lab.training.average import Average
from bptt_lab.training.manifest import parameter_hash
from bptt_lab.training.train import perform


class Recorded(Callback):
    """The parameters after every optimizer step, and those that are validated."""

    def __init__(self):
        self.after, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.after.append({n: p.detach().clone() for n, p in pl_module.named_parameters()})

    def on_validation_epoch_end(self, trainer, pl_module):
        self.validated.append(parameter_hash(pl_module.state_dict()))


def slow_average(after, begin, decay):
    kept = {name: p.double() for name, p in begin.items()}
    for step, parameters in enumerate(after, start=1):
        share = min(decay, (step - 1) / (step + 9))
        kept = {n: share * kept[n] + (1 - share) * parameters[n].double() for n in kept}
    return kept


@pytest.mark.parametrize("decay", [0.3, 0.99])
def test_it_is_the_average_of_all_steps(tmp_path, decay):
    module = make_module(lr=0.5)
    module.average, record = Average(decay), Recorded()
    begin = {n: p.detach().clone() for n, p in module.named_parameters()}
    trainer(tmp_path, max_epochs=3, callbacks=[record]).fit(module, datamodule=Counting())
    wanted = slow_average(record.after, begin, decay)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.double(), wanted[name], rtol=1e-6, atol=1e-7)
        assert not torch.equal(parameter, record.after[-1][name])
    # What was validated last is what is left; training itself goes on from its own parameters.
    assert record.validated[-1] == parameter_hash(module.state_dict())
    assert len(set(record.validated)) == 3
    plain, without = make_module(lr=0.5), Recorded()
    trainer(tmp_path, max_epochs=3, callbacks=[without]).fit(plain, datamodule=Counting())
    for one, other in zip(record.after, without.after, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_keeps_it_in_its_checkpoints(tmp_path):
    averaged = quick_run(tmp_path / "a", "dataset=echo", "trainer.ema_decay=0.9")
    plain = quick_run(tmp_path / "b", "dataset=echo", "trainer.ema_decay=null")
    last = state_dict(tmp_path / "a")
    assert parameter_hash(last) == averaged["parameters_sha256"] != plain["parameters_sha256"]
    saved = torch.load(tmp_path / "a/checkpoints/last.ckpt", weights_only=True)
    assert parameter_hash(saved["trained_state_dict"]) == plain["parameters_sha256"]
    best = torch.load(tmp_path / "a/checkpoints/best.ckpt", weights_only=True)
    assert parameter_hash(best["state_dict"]) == averaged["parameters_sha256"]


@pytest.mark.slow
def test_a_run_that_knew_no_average_goes_on_without(tmp_path):
    """As runs of earlier versions do, whose manifests say nothing of it."""
    plain = quick_run(tmp_path, "dataset=echo", "trainer.ema_decay=null", "optimizer=adam")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["config"]["trainer"]["ema_decay"]
    for later in ("embedding_size", "zero_bias"):
        del manifest["config"]["model"][later]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "status.json").write_text('{"status": "interrupted"}')
    lines = ("num_threads=1", "callbacks=none", "trainer.enable_progress_bar=false")
    lines = (*lines, "trainer.max_epochs=1", "model.hidden_size=8", "dataset=echo")
    experiment = config(*lines)
    assert experiment.trainer.ema_decay is not None
    perform(resumed(experiment, tmp_path), tmp_path, job(*lines))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["parameters_sha256"] == plain["parameters_sha256"]
    # What is typed is no default, and is refused.
    for typed in ("trainer.ema_decay=0.5", "optimizer=adamw", "optimizer.lr=0.5"):
        changed = resumed(config(*lines, typed), tmp_path)
        with pytest.raises(ConfigError, match="the run began with"):
            perform(changed, tmp_path, job(*lines, typed))
    # Nor does it learn of an average where its end moves, however often.
    for epochs in (2, 3):
        later = config(*lines, f"trainer.max_epochs={epochs}")
        perform(resumed(later, tmp_path), tmp_path, job(*lines))
    wanted = ("trainer.ema_decay=null", "optimizer=adam", "trainer.max_epochs=3")
    whole = quick_run(tmp_path / "whole", "dataset=echo", *wanted)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["parameters_sha256"] == whole["parameters_sha256"]
