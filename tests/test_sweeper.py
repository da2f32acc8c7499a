from __future__ import annotations

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from tasks.samples import write_series

from bptt_lab.commands.train.plan import make_plan
from bptt_lab.config import arguments, output_paths
from bptt_lab.training.sweeper import applicable

GRADIENTS = {"full": {}, "lag": {"k": 1}, "truncated": {"k": 1, "k1": None}}


def compose(lines):
    config = {"gradient": {}, "seed": 0}
    for line in lines:
        group, option = line.split("=")
        if option not in GRADIENTS:
            raise HydraException(f"no {option}")
        config[group] = GRADIENTS[option]
    return OmegaConf.create(config)


@pytest.mark.parametrize(
    ("jobs", "left"),
    [
        (  # a setting goes only where it is known, and what is then equal is one job
            ["gradient=full gradient.k=1", "gradient=full gradient.k=8",
             "gradient=lag gradient.k=1", "gradient=lag gradient.k=8"],
            ["gradient=full", "gradient=lag gradient.k=1", "gradient=lag gradient.k=8"],
        ),
        (  # other keys are no business of ours
            ["gradient=full gradient.k1=2 seed=0", "gradient=truncated gradient.k1=2 seed=1"],
            ["gradient=full seed=0", "gradient=truncated gradient.k1=2 seed=1"],
        ),
        (["gradient=full gradient.k=1"], ["gradient=full gradient.k=1"]),  # a mistake stays one
        (  # as does a setting that nobody has, or an option that does not exist
            ["gradient=full gradient.q=1", "gradient=lag gradient.q=1"],
            ["gradient=full gradient.q=1", "gradient=lag gradient.q=1"],
        ),
        (
            ["gradient=nope gradient.k=1", "gradient=lag gradient.k=1"],
            ["gradient=nope", "gradient=lag gradient.k=1"],
        ),
        (["seed=0", "seed=1"], ["seed=0", "seed=1"]),
    ],
)  # fmt: skip
def test_settings_go_to_the_options_that_have_them(jobs, left):
    assert applicable([job.split() for job in jobs], compose) == [job.split() for job in left]


PRESET = {"gradient.k": {"lag", "truncated"}}  # nobody typed it


@pytest.mark.parametrize(
    ("job", "left"),
    [
        ("gradient=full gradient.k=4 seed=0", "gradient=full seed=0"),
        ("gradient=lag gradient.k=4 seed=0", "gradient=lag gradient.k=4 seed=0"),
        ("gradient=full gradient.k1=4", "gradient=full gradient.k1=4"),  # typed: a mistake
        ("seed=0", "seed=0"),
    ],
)
def test_a_presets_setting_is_for_its_options(job, left):
    assert applicable([job.split()], compose, PRESET) == [left.split()]
    everywhere = {"gradient.k": {"full", "feedback"}}  # that none of its options has: a mistake
    assert applicable([job.split()], compose, everywhere) == [job.split()]


@pytest.mark.parametrize(
    ("typed", "count", "kinds"),
    [
        (["gradient=snap1,rflo", "dataset.series=henon", "seed=0,1"], 4, {"Chaos"}),
        (
            ["gradient=uoro", "dataset=series", "dataset.path=", "dataset.lanes=2", "seed=0"],
            1,
            {"Series"},
        ),
        (["gradient=rtrl,sparse_rtrl", "dataset=echo", "seed=3"], 2, {"Echo"}),
    ],
)
def test_the_league_takes_other_rules_and_streams(tmp_path, monkeypatch, typed, count, kinds):
    monkeypatch.chdir(tmp_path)
    output_paths.register()
    typed = [line + str(write_series(tmp_path)) if line[-1] == "=" else line for line in typed]
    plan = make_plan(arguments.parse_arguments(["experiment=league", *typed]))
    assert len(plan.jobs) == len(plan.experiments) == count
    assert {e.dataset.target.rpartition(".")[2] for e in plan.experiments} == kinds
    for experiment in plan.experiments:
        sparse = experiment.gradient.target.endswith("SparseRTRL")
        assert experiment.gradient.settings.get("k") == (4 if sparse else None)
        assert "rank" not in experiment.gradient.settings
    assert plan.config.hydra.launcher._target_.endswith("FleetLauncher")


def test_a_launcher_typed_wins_over_the_leagues(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output_paths.register()
    line = ["experiment=league", "gradient=snap1", "seed=0", "hydra/launcher=process"]
    plan = make_plan(arguments.parse_arguments([*line, "dataset.series=henon"]))
    assert plan.config.hydra.launcher._target_.endswith("ProcessLauncher")
    assert len(plan.jobs) == 1 and "gradient.rank=16" not in plan.jobs[0]
