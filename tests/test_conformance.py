"""The conformance suite as outsiders use it: sound strategies pass, each defect is named."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import outside_strategies as outside
import pytest
from commands import Forked
from outside_strategies import ScaledARTBP, ScaledKFRTRL, ScaledUORO

from bptt_lab.diagnostics.conformance import contract
from bptt_lab.diagnostics.conformance.claims import check_unbiased, means
from bptt_lab.diagnostics.conformance.compare import Failed
from bptt_lab.diagnostics.conformance.conftest import load
from bptt_lab.diagnostics.conformance.contract import CHECKS, NETS, ON_NETS, outcome, verify
from bptt_lab.gradients.artbp import ARTBP
from bptt_lab.gradients.kf_rtrl import KFRTRL
from bptt_lab.gradients.uoro import UORO

SLOW = pytest.mark.slow


def outcomes_of(name, strategy):
    """What the check of this name says, on every net where it is made on many."""
    alone = [outcome(check, strategy) for check in CHECKS if check.__name__ == f"check_{name}"]
    on_nets = [check for check in ON_NETS if check.__name__ == f"check_{name}"]
    return alone + [outcome(check, strategy, net) for check in on_nets for net in NETS]


@pytest.mark.parametrize(
    "strategy",
    [
        outside.Good(),
        outside.GoodOnline(),
        pytest.param(outside.Fades(), marks=SLOW),
        pytest.param(outside.with_settings, marks=SLOW),
    ],
    ids=repr,
)
def test_a_sound_strategy_has_no_failure(strategy):
    outcomes = verify(strategy)
    assert [str(o) for o in outcomes if o.status == "failed"] == []
    assert all((o.status == "passed") == (not o.reason) for o in outcomes)
    assert sum(o.status == "passed" for o in outcomes) > 35


def test_a_bias_that_only_stacked_layers_show_is_seen():
    assert [str(o) for o in verify(outside.LayersApart()) if o.status == "failed"] == []


def test_each_skip_has_its_reason():
    for check, reason in (
        ("mask", "states no mask"),
        ("dropout", "takes one layer"),
        ("packed", "draws other random numbers"),
        ("gradient", "neither exact nor has a fixed mask"),
    ):
        for skipped in outcomes_of(check, UORO()):
            assert skipped.status == "skipped"
            assert reason in skipped.reason


@pytest.mark.parametrize(
    "broken, check, complaint",
    [
        (outside.CutsEveryStep(), "gradient", "not the masked oracle's gradient"),
        (outside.ForgetsLeak(), "gradient", "not the masked oracle's gradient"),
        (outside.ForgetsDropout(), "dropout", "dropout"),
        (outside.ClaimsAllChunks(), "exact_across_chunks", "claims to be exact across chunks"),
        (outside.ClaimsNothing(), "claims_are_stated", "unbiased is not stated"),
        (outside.ClaimsNotToBeLinear(), "linear", "claims not to be linear"),
        (outside.Raises(), "accumulates", "raised KeyError: 'weight_hh'"),
        (outside.AssertsInVain(), "mask", "raised AssertionError: no mask today"),
        (outside.RoundsWeights(), "mask", "or weights in float64"),
        (outside.WeighsOneStepOff(), "gradient", "not the masked oracle's gradient"),
        (outside.ForgetsInfluence(), "exact_across_chunks", "claims to be exact across chunks"),
        (outside.AveragesOverBatch(), "sequences_apart", "influence: sequences mixed"),
        (outside.SpoilsInfluence(), "influence", "influence: changed in place"),
        (outside.RefusesWithoutAWayOut(), "refuses", "names no strategy that can"),
        (outside.TruncatedClaimsUnbiased(k=3), "unbiased", "gives one gradient at every draw"),
        (ScaledUORO(factor=1.1), "unbiased", "mean is off by"),
    ],
    ids=lambda value: repr(value) if hasattr(value, "unroll") else "",
)
def test_a_defect_fails_and_is_named(broken, check, complaint):
    assert any(o.status == "failed" and complaint in o.reason for o in outcomes_of(check, broken))


@pytest.mark.parametrize("k, mode", [(3, "lag"), (30, "lag"), (7, "tail"), (150, "chunk")])
def test_a_biased_strategy_that_draws_nothing_cannot_claim_to_be_unbiased(k, mode):
    with pytest.raises(Failed, match="claims to be unbiased"):
        check_unbiased(outside.TruncatedClaimsUnbiased(k=k, mode=mode))


def test_a_strategy_that_seldom_draws_is_not_taken_for_a_biased_one():
    check_unbiased(ARTBP(mean_length=1000))


@pytest.mark.parametrize(
    "broken",
    [
        ScaledARTBP(factor=1.1),
        *(pytest.param(ScaledARTBP(factor=factor), marks=SLOW) for factor in (0.5, 2)),
        *(pytest.param(ScaledUORO(factor=factor), marks=SLOW) for factor in (0.5, 2)),
        *(pytest.param(ScaledKFRTRL(factor=factor), marks=SLOW) for factor in (0.5, 1.1, 2)),
        *(pytest.param(ScaledUORO(noise=noise), marks=SLOW) for noise in (-1, 1)),
    ],
    ids=lambda broken: f"{type(broken).__name__}-{broken.factor}-{getattr(broken, 'noise', 0)}",
)
def test_an_estimator_off_by_its_own_scale_is_not_unbiased(broken):
    with pytest.raises(Failed, match="claims to be unbiased, but its mean is off"):
        check_unbiased(broken)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 20))
def test_the_mean_tells_sound_from_scaled_at_every_seed(seed):
    """Sound means stay within 4 of the 5 standard errors; a factor of 1.1 is 7 and more away."""
    for sound, scaled in ((UORO, ScaledUORO), (KFRTRL, ScaledKFRTRL), (ARTBP, ScaledARTBP)):
        assert all(mean.off < 4 * mean.error + 0.01 for mean in means(sound(seed=seed)))
        assert any(
            mean.off > 7 * mean.error + 0.01 for mean in means(scaled(factor=1.1, seed=seed))
        )


@pytest.fixture
def folder(tmp_path):
    """A folder outside, with a package that has strategies."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").touch()
    shutil.copy(outside.__file__, tmp_path / "theirs" / "rules.py")
    return tmp_path


def python(folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)


def conformance(folder, *options):
    suite = Forked("commands:suite", ("--pyargs", "bptt_lab.conformance", "-q", *options), folder)
    out, err = suite.communicate()
    return subprocess.CompletedProcess(options, suite.returncode, out, err)


def test_pytest_passes_a_sound_strategy_and_says_why_it_skips(folder):
    some = ("-rs", "-k", "accumulates or unbiased or carries")
    ran = conformance(folder, "--bptt-strategy", "theirs.rules:with_settings", *some)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
    assert "does not claim to be unbiased" in ran.stdout


def test_pytest_fails_a_broken_one_and_says_why(folder):
    ran = conformance(folder, "--bptt-strategy", "theirs.rules:AveragesOverBatch", "-k", "apart")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "influence: sequences mixed" in ran.stdout


def test_no_check_is_an_assert_statement_or_needs_pytest():
    """Under `python -O` an assert statement says nothing; a plain loop may have no pytest."""
    folder = Path(contract.__file__).parent
    for file in sorted(folder.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Assert)], file
        of_pytest = file.name in ("conftest.py", "option.py", "test_conformance.py")
        assert of_pytest or "pytest" not in imported(tree), file


def imported(tree):
    """The packages that a module imports."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    plain = {alias.name for node in nodes for alias in node.names}
    return {name.partition(".")[0] for name in plain | {getattr(n, "module", "") for n in nodes}}


@pytest.mark.slow  # everything is compiled once more for -O
def test_a_plain_loop_without_pytest_and_without_asserts(folder):
    ran = python(
        folder,
        "-O",
        "-c",
        "import sys; sys.modules['pytest'] = None\n"
        "from bptt_lab.conformance.contract import verify\n"
        "from theirs.rules import AveragesOverBatch\n"
        "print(*verify(AveragesOverBatch()), sep='\\n')\n",
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("\npassed ") > 30
    assert "failed sequences_apart: influence: sequences mixed" in ran.stdout


def test_a_users_own_option_strategy_does_not_collide(folder):
    (folder / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--strategy')\n"
    )
    (folder / "test_own.py").write_text(
        "import sys\n"
        "def test_own(request):\n"
        "    assert request.config.getoption('--strategy') == 'own'\n"
        "    assert 'torch' not in sys.modules  # the plugin costs others nothing\n"
    )
    ran = python(folder, "-m", "pytest", "-q", "test_own.py", "--strategy", "own")
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_pytest_refuses_to_run_without_a_strategy(folder):
    ran = conformance(folder)
    assert ran.returncode == 4, ran.stdout + ran.stderr
    assert "--bptt-strategy: must be given, as MODULE:NAME" in ran.stderr + ran.stdout


@pytest.mark.parametrize(
    "name, complaint",
    [
        ("outside", "must be MODULE:NAME"),
        ("nowhere:Good", "cannot be found"),
        ("outside_strategies:Gone", "cannot be found"),
        ("outside_strategies:ScaledARTBP", "cannot be made without settings"),
        ("outside_strategies:scaled", "must be a GradientStrategy"),
    ],
)
def test_a_name_that_is_no_strategy_is_refused(name, complaint, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(pytest.UsageError, match=f"^--bptt-strategy={name}: {complaint}"):
        load(name)
