"""The loader gives what Hydra's own gives, and composes a choice of options once."""

from __future__ import annotations

import pytest
from hydra import version
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bptt_lab.config import loader as module
from bptt_lab.config import output_paths
from bptt_lab.config.hydra_internals import ConfigLoaderImpl, create_automatic_config_search_path
from bptt_lab.config.loader import Loader

LINES = (
    *("gradient=truncated", "gradient=full", "dataset=adding", "model=irnn", "optimizer=sgd"),
    *("gradient.k=3", "gradient=a,b", "gradient.k=1,2", "gradient={}", "seed=3", "seed=range(3)"),
    *("+foo=1", "++seed=4", "~seed", "~gradient", "~model.leak", "+gradient=full", "model.leak=x"),
    *("optimizer.betas=[0.1,0.2]", "dataset.length=7", "nope=1", "gradient=nope", "a b", "seed"),
    *("hydra/launcher=basic", "hydra.launcher.n_jobs=2", "hydra.job.name=mine", "hydra.nope=1"),
    *("hydra.job.env_copy=[HOME]", "hydra.job.config.override_dirname.kv_sep=:", "hydra.mode=RUN"),
    *("hydra.job.config_name=foo", "hydra.overrides.task=[seed=1]", "hydra.overrides.task=[]"),
    *("hydra.runtime.choices.model=foo", "hydra.runtime.version=0", "hydra.runtime.cwd=x"),
    *("+hydra.job.config.override_dirname.foo=1", "hydra.sweeper=null", "seed=${hydra.job.num}"),
    *("experiment=horizon", "hydra.run.dir=x", "hydra.sweep.dir=x,y", "callbacks=none", "=3"),
)


def loader(kind):
    version.setbase("1.3")
    setup_globals()
    output_paths.register()
    JobRuntime().set("name", "cli")
    return kind(create_automatic_config_search_path(None, None, "pkg://bptt_lab.conf"))


def loaded(from_loader, lines, mode):
    """The configuration as its files write it, or the error that it ends in."""
    try:
        config = from_loader.load_configuration("config", list(lines), mode)
    except Exception as error:
        return type(error), str(error), str(error.__cause__)
    flags = [OmegaConf.is_struct(config), OmegaConf.is_readonly(config.hydra)]
    return OmegaConf.to_container(config, resolve=False), flags


COMMAND_LINES = given(st.lists(st.sampled_from(LINES), max_size=4), st.sampled_from([*RunMode]))


def loads_what_hydra_loads(lines, mode):
    ours, theirs = loader(Loader), loader(ConfigLoaderImpl)
    expected = loaded(theirs, lines, mode)
    found = loaded(ours, lines, mode)
    if isinstance(expected[0], type) and len(lines) > 1:
        assert isinstance(found[0], type)  # which of several mistakes is told is left open
        return
    assert found == expected
    assert loaded(ours, lines, mode) == expected  # from memory, which nothing has changed


@settings(max_examples=8)
@COMMAND_LINES
def test_it_loads_what_hydra_loads(lines, mode):
    loads_what_hydra_loads(lines, mode)


@pytest.mark.slow
@settings(max_examples=500)
@COMMAND_LINES
def test_it_loads_what_hydra_loads_in_many_cases(lines, mode):
    loads_what_hydra_loads(lines, mode)


def test_values_are_set_without_composing_again(monkeypatch):
    composed, load = [], ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(module, "_of_packages", {})
    monkeypatch.setattr(
        ConfigLoaderImpl,
        "load_configuration",
        lambda self, *args: composed.append(args) or load(self, *args),
    )
    ours = loader(Loader)
    for lines in (["seed=1"], ["seed=2", "optimizer.lr=3"], ["gradient=truncated", "seed=1"]):
        config = ours.load_configuration("config", lines, RunMode.RUN)
        assert config.seed == int(lines[-1][-1]) or config.optimizer.lr == 3
    loader(Loader).load_configuration("config", ["seed=3"], RunMode.RUN)
    assert len(composed) == 2


def test_the_time_is_told_anew(monkeypatch):
    ours, times = loader(Loader), []
    for year in ("1999", "2001"):
        OmegaConf.register_new_resolver("now", lambda _: year, use_cache=True, replace=True)  # noqa: B023
        config = ours.load_configuration("config", ["hydra.run.dir=${now:%Y-%m-%d}"], RunMode.RUN)
        times.append(config.hydra.run.dir)
    setup_globals()
    assert times == ["1999", "2001"]


def test_files_of_a_folder_are_read_again_by_another_command_line(tmp_path):
    option = tmp_path / "gradient" / "mine.yaml"
    option.parent.mkdir()
    for k in (1, 2):
        option.write_text(f"_target_: a.B\nk: {k}\n")
        lines = [f"hydra.searchpath=[{tmp_path}]", "gradient=mine"]
        assert loader(Loader).load_configuration("config", lines, RunMode.RUN).gradient.k == k


def test_what_is_remembered_knows_where_the_command_runs(tmp_path, monkeypatch):
    for folder in (tmp_path, tmp_path.parent):
        monkeypatch.chdir(folder)
        config = loader(Loader).load_configuration("config", [], RunMode.RUN)
        assert config.hydra.runtime.cwd == str(folder)


@pytest.mark.parametrize("mode", [*RunMode])
def test_a_folder_of_options_is_looked_into(tmp_path, mode):
    (tmp_path / "gradient").mkdir()
    (tmp_path / "gradient" / "mine.yaml").write_text("_target_: a.B\nk: 1\n")
    lines = [f"hydra.searchpath=[{tmp_path}]", "gradient=mine", "gradient.k=2"]
    ours = loaded(loader(Loader), lines, mode)
    assert ours == loaded(loader(ConfigLoaderImpl), lines, mode)
    assert ours[0]["gradient"] == {"_target_": "a.B", "k": 2}
