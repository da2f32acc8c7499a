"""bptt-compare: its figures against gradients computed here, its claims, its refusals."""

import functools
import json
import math
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure
from runs import quick_run

from bptt_lab.commands import command, peak_memory, timing
from bptt_lab.commands.compare import cli, figure, request, table
from bptt_lab.commands.compare.batch import prepare
from bptt_lab.commands.compare.measurement import grid, measure, of_a_pass, one_pass, plan
from bptt_lab.core.validation import ConfigError
from bptt_lab.diagnostics import lag_spectrum
from bptt_lab.gradients.full import Full
from bptt_lab.training import checkpoint_io, style
from bptt_lab.training.build import make

MODES = ("chunk", "lag", "window", "tail")
SMALL = ("model.hidden_size=6", "dataset.batch_size=3", "dataset.train_size=6")
COPY = ("dataset=copy_memory", "dataset.delay=4", *SMALL, "trainer.precision=64-true")
ADDING = ("dataset=adding", "dataset.num_steps=8", *SMALL)
# Only the third chunk of eight steps has a loss.
CARRIED = (*ADDING, "dataset.chunk_length=3", "trainer.precision=64-true")
PLUGINS = """
import torch
from bptt_lab.gradients.full import Full

class Noisy(Full):
    exact_within_chunk = False
    unbiased = True
    def __init__(self) -> None:
        self.draws = torch.Generator().manual_seed(0)
    def unroll(self, rnn, input, carry):
        output, carry = super().unroll(rnn, input, carry)
        scale = 0.5 + float(torch.randint(2, (), generator=self.draws))
        output = output.clone()
        output.register_hook(lambda gradient: scale * gradient)
        return output, carry

class Stubborn(Full):
    def unroll(self, rnn, input, carry):
        raise ValueError("model.num_layers=1: must be at least 2;\\nuse gradient=full")
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Time in few rounds, and measure no memory but where a test does."""
    monkeypatch.setattr(timing, "BUDGET", 0.01)
    monkeypatch.setattr(peak_memory, "peak", lambda *_: 3_000_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Two strategies of a user's, as options in a folder of his."""
    (tmp_path / "mystrategies.py").write_text(PLUGINS)
    folder = tmp_path / "options" / "gradient"
    folder.mkdir(parents=True)
    for name in ("Noisy", "Stubborn"):
        (folder / f"{name.lower()}.yaml").write_text(f"_target_: mystrategies.{name}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield ("--config-dir", str(folder.parent), "allow=[mystrategies]")
    sys.modules.pop("mystrategies", None)


def compared(*overrides, names=None, draws=4):
    return measured(overrides, names and tuple(names), draws)


@functools.cache
def measured(overrides, names, draws):
    requested = request.read(overrides, None, names and [*names])
    batch = prepare(requested.experiment, requested.checkpoint)
    chosen = plan(requested, batch, draws, curve=True, limit=math.inf, fixed=0.0)
    return batch, measure(requested, batch, chosen, draws, lambda row: None)


def backward(batch, strategy):
    """The network's gradient as training gets it: by .backward(), one vector."""
    batch.module.zero_grad()
    rnn = batch.module.rnn
    carry = strategy.init_carry(rnn, len(batch.hx[0]))._replace(hx=batch.hx)
    batch.loss(strategy.unroll(rnn, batch.sequences.input, carry)[0]).backward()
    return torch.cat([p.grad.flatten() for p in rnn.parameters()])


@pytest.mark.parametrize("overrides", [pytest.param(COPY, marks=pytest.mark.slow), CARRIED])
def test_figures_are_those_of_training_s_gradients(overrides):
    batch, found = compared(*overrides)
    full = backward(batch, Full())
    rows = {(r.option.label, r.option.k): r for r in (*found.strategies, *found.curve)}
    assert {label for label, _ in rows} >= {"full", "autograd", "checkpointed", "truncated lag"}
    for row in rows.values():
        if row.draws:
            continue
        g = backward(batch, make("gradient", row.option.component))
        error = float((g - full).norm() / full.norm())
        assert row.aligned.relative_error.value == pytest.approx(error, abs=1e-10)
        cosine = float(g @ full / (g.norm() * full.norm()))
        assert row.aligned.cosine.value == pytest.approx(cosine, abs=1e-10)
        assert row.aligned.norm_ratio.value == pytest.approx(float(g.norm() / full.norm()))


def test_claims_hold():
    _, found = compared(*COPY)
    for row in (*found.strategies, *found.curve):
        exact = row.aligned.relative_error.value < 1e-10
        all_steps = row.option.name == "online_bptt"  # its k is longer than the batch
        assert exact == (row.claims == "exact" or all_steps), row.option
        assert row.draws == (row.claims == "unbiased") and row.seconds > 0
    (full,) = [row for row in found.strategies if row.option.name == "full"]
    assert full.times_full == 1.0


def test_every_mode_at_every_k_and_lag_as_the_spectrum_has_it():
    batch, found = compared(*COPY, names=["truncated"])
    num_steps = len(batch.sequences.input)
    assert {(r.option.mode, r.option.k) for r in found.curve} == {
        (mode, k) for mode in MODES for k in (1, 2, 4, 8, 16)
    }
    rnn, input = batch.module.rnn, batch.sequences.input
    error = lag_spectrum(rnn, input, batch.loss, batch.hx).relative_error["total"]
    assert len(error) == num_steps == 24
    for row in found.curve:
        if row.option.mode == "lag":
            known = float(error[row.option.k - 1])
            assert row.aligned.relative_error.value == pytest.approx(known, abs=1e-10)


def test_the_configuration_s_own_truncation_is_among_them():
    own = ("gradient=truncated", "gradient.k=5", "gradient.mode=window", "gradient.k1=2")
    _, found = compared(*COPY, *own, names=["truncated"])
    (mine,) = [row.option for row in found.strategies if row.option.k == 5]
    assert mine.mode == "window" and mine.component.settings["k1"] == 2
    others = [row.option for row in found.curve if row.option.k != 5]
    assert {option.component.settings["k1"] for option in others} == {None}


@pytest.mark.parametrize(
    ("num_steps", "ks"),
    [(1, [1]), (2, [1]), (3, [1, 2]), (16, [1, 2, 4, 8]), (17, [1, 2, 4, 8, 16])],
)
def test_grid_stays_below_the_sequence(num_steps, ks):
    assert grid(num_steps) == ks


def test_a_batch_that_counts_with_the_state_before_it():
    requested = request.read(CARRIED, None, ["full"])
    batch = prepare(requested.experiment, None)
    assert batch.sequences.mask.any() and batch.hx.abs().sum() > 0
    assert len(batch.sequences.input) == 2


def test_a_random_strategy_has_bias_variance_and_snr(plugins):
    _, found = compared(*plugins, *COPY, names=["noisy", "full"], draws=16)
    rows = {row.option.name: row for row in found.strategies}
    noisy = rows["noisy"]
    assert noisy.draws and not rows["full"].draws and noisy.claims == "unbiased"
    # The gradient's scale is 0.5 or 1.5: its deviation is always half of the true one.
    assert noisy.aligned.relative_error.value == pytest.approx(0.5)
    assert noisy.aligned.variance.value == pytest.approx(0.25, rel=0.2)
    assert noisy.aligned.bias.value < 0.3
    assert " ± " in " ".join(table.cells(noisy))


def test_a_strategy_that_refuses_is_listed(plugins, capsys):
    assert cli.main([*plugins, *COPY, "--strategies", "full,stubborn"]) == 0
    out = capsys.readouterr().out
    refused = "  stubborn: model.num_layers=1: must be at least 2; use gradient=full"
    assert refused in out.splitlines()
    (line,) = [line for line in out.splitlines() if line.startswith("full")]
    assert line.split()[-1] == "3.0"


def test_an_option_that_the_configuration_rules_out_is_listed(capsys):
    assert cli.main([*COPY, "segment_length=4", "--strategies", "full,truncated"]) == 0
    out = capsys.readouterr().out
    assert "  truncated: segment_length=4: needs an exact strategy" in out


def test_a_foreign_option_is_listed_and_not_run(tmp_path, capsys):
    folder = tmp_path / "options" / "gradient"
    folder.mkdir(parents=True)
    (folder / "evil.yaml").write_text(f"_target_: os.system\ncommand: touch {tmp_path}/canary\n")
    assert cli.main(["--config-dir", str(folder.parent), *COPY, "--strategies", "evil,full"]) == 0
    assert "  evil: gradient._target_=os.system: is not in" in capsys.readouterr().out
    assert not (tmp_path / "canary").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    quick_run(folder, *ADDING, "dataset.val_size=4", "dataset.test_size=4")
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_trained_parameters(run):
    untrained = prepare(request.read(ADDING, None, None).experiment, None)
    for path in (run, run / "checkpoints" / "best.ckpt"):
        requested = request.read((), path, ["full"])
        batch = prepare(requested.experiment, requested.checkpoint)
        name = path.name if path != run else "last.ckpt"
        state = checkpoint_io.read(run / "checkpoints" / name)["state_dict"]
        for key, value in batch.module.state_dict().items():
            assert torch.equal(value, state[key])
        weight = untrained.module.rnn.weight_hh_l0
        assert not torch.equal(weight[:6, :6], batch.module.rnn.weight_hh_l0[:6, :6])
        assert requested.experiment.dataset.settings["num_steps"] == 8


def edit(run, change):
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


HOSTILE = {
    "is not in bptt_lab": lambda m: m["config"]["gradient"].update(
        _target_="os.system", command="touch canary"
    ),
    "there is no such setting": lambda m: m["config"].update(_args_=["touch canary"]),
    "holds other parameters": lambda m: m["config"]["model"].update(hidden_size=7),
    "must be at least 1": lambda m: m["config"]["model"].update(hidden_size=-1),
    "config=[1]: must be an object": lambda m: m.update(config=[1]),
    "the section is missing": lambda m: m["config"].pop("gradient"),
}


@pytest.mark.parametrize("part", HOSTILE)
def test_a_hostile_manifest_is_refused(run, capsys, part):
    edit(run, HOSTILE[part])
    assert cli.main(["--checkpoint", str(run)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("bptt-compare: ") and err.count("\n") == 1 and part in err
    assert not (run.parent / "canary").exists()


def test_a_changed_checkpoint_is_refused(run, capsys):
    path = run / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert cli.main(["--checkpoint", str(run)]) == 2
    assert "its sha256 has changed" in capsys.readouterr().err


REFUSED = [
    (("dataset=addng",), "did you mean adding?"),
    (("dataset=adding", "model.hidden_size=0"), "model.hidden_size=0: must be at least 1"),
    ((*ADDING, "gradient.k=1,2"), "gradient.k=1,2: is a sweep"),
    (("-m", *ADDING), "one setting is compared"),
    (("experiment=compare_strategies",), "is a sweep"),
    (("--strategies", "full,nosuch"), "--strategies=nosuch: must be one of"),
    (("--draws", "1"), "at least 2"),
    (("--figure", "x.gif"), "must end in .png"),
    (("--figure", "nowhere/x.png"), "there is no folder nowhere"),
    (("--checkpoint", "nowhere"), "holds no checkpoint"),
    (("--nosuch",), "--nosuch"),
    (("device.devices=2", "device.accelerator=cpu"), "strategies are compared on device=cpu"),
]


@pytest.mark.parametrize(("argv", "part"), REFUSED)
def test_a_mistake_is_told_on_one_line(capsys, tmp_path, argv, part):
    assert cli.main([*argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("bptt-compare: ") and err.count("\n") == 1 and part in err
    assert not list(tmp_path.iterdir())


def test_with_a_checkpoint_no_other_setting_is_taken(run):
    with pytest.raises(ConfigError, match="a run's own settings hold"):
        request.read(("model=elman",), run, None)


def test_a_mistake_is_told_before_torch_is_imported():
    code = (
        "import sys; from bptt_lab.commands.compare import cli; "
        "assert cli.main(['dataset=adding', 'model.hidden_size=0']) == 2; "
        "assert cli.main(['dataset=adding', '--strategies', 'nosuch']) == 2; "
        "assert not {'torch', 'lightning', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "suffix",
    [pytest.param(s, marks=() if s == ".svg" else pytest.mark.slow) for s in command.PICTURES],
)
def test_the_figure_is_written_and_the_same_each_time(tmp_path, suffix):
    _, found = compared(*COPY, names=["full", "truncated"])
    contents = []
    for name in "ab":
        path = tmp_path / f"{name}{suffix}"
        figure.draw(found, "copy $memory$", path)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] and len(contents[0]) > 5000


# Each choice and each length; with -m slow each with each.
COMPARISONS = [
    pytest.param(names, chunk_length, marks=() if i == j != 1 else pytest.mark.slow)
    for i, names in enumerate((["full"], None, ["truncated"]))
    for j, chunk_length in enumerate((1, 2, 24))
]


@pytest.mark.parametrize(("names", "chunk_length"), COMPARISONS)
def test_any_comparison_has_a_table_and_a_figure(tmp_path, names, chunk_length):
    _, found = compared(*COPY, f"dataset.chunk_length={chunk_length}", names=names)
    figure.draw(found, "x", tmp_path / "x.png")
    assert all(table.cells(row) for row in found.strategies) and table.closing(found)


def test_curves_and_colours():
    _, found = compared(*COPY)
    error, cosine, cost = figure.PANELS
    styles = figure._styles(found)
    axes = Figure().subplots()
    figure._draw_modes(axes, found, styles, cosine)
    lag = axes.lines[MODES.index("lag")]
    rows = [row for row in found.curve if row.option.mode == "lag"]
    assert list(lag.get_xdata()) == [1, 2, 4, 8, 16]
    assert list(lag.get_ydata()) == [row.aligned.cosine.value for row in rows]
    assert lag.get_color() == styles["truncated lag"].colour
    assert styles["full"].colour == style.colour("full")
    modes = [styles[f"truncated {mode}"] for mode in MODES]
    assert {mode.colour for mode in modes} == {style.colour("truncated")}
    assert len({(mode.dashes, mode.marker) for mode in modes}) == len(MODES)
    assert error.least == figure.EXACT and not cost.is_bias


def test_rise_sees_an_allocation_and_not_what_was_there():
    kept = torch.ones(4_000_000)
    found = peak_memory.rise(lambda: torch.ones(8_000_000).sum())
    assert found == pytest.approx(32e6, rel=0.1) and len(kept) == 4_000_000


def test_peak_memory_is_that_of_a_strategy_s_forward_and_backward_pass():
    overrides = ("dataset=adding", "dataset.num_steps=800", "dataset.train_size=32")
    requested = request.read(overrides, None, ["full", "truncated"])
    (full,) = requested.options
    lag = next(o for o in request.truncations(requested, [8]) if o.mode == "lag")
    states = 800 * 32 * 128 * 4
    peaks = []
    for option in (full, lag):
        call = one_pass(requested.experiment, None, option.component)
        call()
        peaks.append(peak_memory.rise(call))
    assert 1.5 * states < peaks[0] < 3 * states
    assert peaks[1] > 4 * states


def test_timing_is_put_in_doubt_where_others_disturb(monkeypatch):
    _, found = compared(*COPY, names=["full"])
    (row,) = found.strategies
    calm, disturbed = (replace(found, strategies=[replace(row, unsteady=u)]) for u in (1.2, 3.0))
    assert "warning" not in table.closing(calm)
    assert "2.0 times its best" in table.closing(disturbed)


# What is seen while it runs


def test_each_row_is_printed_before_the_next_is_measured(monkeypatch, capsys):
    printed = []

    def peak(*arguments):
        printed.append(capsys.readouterr().out)
        return 3_000_000

    monkeypatch.setattr(peak_memory, "peak", peak)
    assert cli.main([*ADDING, "--strategies", "full,snap1,uoro"]) == 0
    before, full, snap1 = printed
    assert "loading torch" in before and "processor seconds for 3 rows" in before
    assert full.startswith("full ") and snap1.startswith("snap1 ") and full.count("\n") == 1


def test_a_peak_that_is_unknown_is_left_out_and_another_error_is_seen(monkeypatch, capsys):
    raised = peak_memory.Unmeasured("BrokenProcessPool: ")

    def peak(*_):
        raise raised

    monkeypatch.setattr(peak_memory, "peak", peak)
    assert cli.main([*ADDING, "--strategies", "full"]) == 0
    out = capsys.readouterr().out
    assert "\nfull " in out and "3.0" not in out
    raised = AttributeError("ours")
    with pytest.raises(AttributeError, match="ours"):
        cli.main([*ADDING, "--strategies", "full"])


@pytest.mark.slow
def test_a_dear_strategy_is_skipped_by_name_with_the_option_that_runs_it(monkeypatch, capsys):
    monkeypatch.setattr(cli, "DEAR", 0.0)
    assert cli.main([*ADDING]) == 0
    out = capsys.readouterr().out
    assert "for 0 rows" in out
    (line, _) = [line for line in out.splitlines() if line.startswith("  rtrl: skipped, about ")]
    assert line.endswith("--strategies rtrl runs it, --strategies all runs all")
    for asked in ("rtrl", "all"):
        assert cli.main([*ADDING, "--strategies", asked, "--draws", "2"]) == 0
        out = capsys.readouterr().out
        assert "skipped" not in out and "\nrtrl  " in out


def test_a_cost_is_that_of_a_piece_in_proportion(monkeypatch):
    """A clock that the pieces themselves move: 10 ms a step and sequence, 4 ms a call."""
    now, pieces = [0.0], []

    def run(steps, sequences):
        pieces.append((steps, sequences))
        now[0] += 0.004 + 0.01 * steps * sequences

    monkeypatch.setattr(time, "process_time", lambda: now[0])
    assert of_a_pass(run, (50, 8), 2) == pytest.approx(0.01 * 400, rel=0.15)
    assert set(pieces) == {(2, 1), (2, 2)}
    assert of_a_pass(run, (1, 1), 2) == pytest.approx(0.014)


def test_where_only_the_last_step_has_a_loss_truncations_are_one():
    _, found = compared("dataset=adding", *SMALL, names=["truncated"])
    alike = found.alike
    assert [[*group] for group in alike.modes] == [["chunk"], ["lag", "window", "tail"]]
    by_k = {(r.option.mode, r.option.k): r.aligned.cosine.value for r in found.curve}
    assert by_k["chunk", 4] == pytest.approx(by_k["chunk", 16], abs=1e-6)
    assert by_k["lag", 8] == pytest.approx(by_k["tail", 8], abs=1e-6)
    chunk, modes = alike.sentences
    assert "chunk at k = 4, 8, 16 (4 steps reached); 1 of 20 steps have a loss (20)" in chunk
    assert "lag, window, tail at each k" in modes and chunk in table.closing(found)
    axes = Figure().subplots()
    error, _, cost = figure.PANELS
    figure._draw_modes(axes, found, figure._styles(found), error)
    assert len(axes.lines) == 2
    axes = Figure().subplots()
    figure._draw_modes(axes, found, figure._styles(found), cost)
    assert len(axes.lines) == len(MODES)


def test_where_each_step_has_a_loss_nothing_is_one():
    _, found = compared(*COPY, names=["truncated"])
    assert len(found.alike.modes) == len(MODES) and not found.alike.sentences


def test_times_have_the_quartiles_of_their_rounds():
    _, found = compared(*COPY, names=["full", "snap1"])
    full, snap1 = found.strategies
    assert full.quartiles == (1.0, 1.0)
    low, high = snap1.quartiles
    assert low <= snap1.times_full <= high
