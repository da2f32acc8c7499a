"""The conformance command as outsiders run it: a sound strategy passes, each defect is found."""

import os
import subprocess
import sys

import pytest

GOOD = """
from bptt_lab.gradients.future import FutureFacing
from bptt_lab.gradients.past import PastFacing
from bptt_lab.gradients.influence import recur
from bptt_lab.gradients.truncated import Truncated


class Good(FutureFacing):
    exact_within_chunk = True
    exact_across_chunks = False
    unbiased = True
    cost = "O(L N H^2)"
    space = "O(L N H)"

    def assign(self, stack):
        return stack.sweep()


class GoodOnline(PastFacing):
    exact_within_chunk = True
    exact_across_chunks = True
    unbiased = True
    cost = "O(L N H^4)"
    space = "O(N H^3)"

    def advance(self, chunk, memory):
        return recur(chunk, memory)[0], None

    def gradient(self, chunk, memory, kept, q_LNH):
        return recur(chunk, memory, q_LNH)[1]


def claims(kind):
    return {name: getattr(kind, name) for name in
            ("exact_within_chunk", "exact_across_chunks", "unbiased", "cost", "space")}


def broken(name, kind, **methods):
    globals()[name] = type(name, (kind,), {**claims(kind), "__module__": __name__, **methods})


broken("CutsEveryStep", Good, assign=lambda self, stack: stack.sweep(
    [0.0] * len(stack.layers[0].input)))
broken("ForgetsLeak", Good, assign=lambda self, stack: stack._replace(
    cell=stack.cell._replace(leak=1.0)).sweep())
broken("ForgetsDropout", Good, assign=lambda self, stack: stack._replace(
    layers=[layer._replace(dropout=None) for layer in stack.layers]).sweep())
broken("ClaimsAllChunks", Good, exact_across_chunks=True)
broken("ForgetsMemory", GoodOnline, advance=lambda self, chunk, memory: (None, None))
broken("AveragesOverBatch", GoodOnline, advance=lambda self, chunk, memory: (
    lambda M: (M.mean(0, keepdim=True).expand_as(M).clone(), None))(recur(chunk, memory)[0]))
broken("SpoilsMemory", GoodOnline, gradient=lambda self, chunk, memory, kept, q: (
    recur(chunk, memory, q)[1], memory is None or memory.zero_())[0])


class RefusesWithoutAWayOut(GoodOnline):
    locals().update(claims(GoodOnline))

    def states(self, rnn, input, carry, lengths=None):
        if rnn.num_layers > 1:
            raise ValueError("one layer only")
        return super().states(rnn, input, carry, lengths)


with_settings = Truncated(k=4, mode="lag")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outsider")
    (folder / "outside").mkdir()
    (folder / "outside" / "__init__.py").touch()
    (folder / "outside" / "rules.py").write_text(GOOD)
    return folder


def conformance(folder, *options):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--pyargs",
        "bptt_lab.conformance",
        "-q",
        *options,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    ["Good", pytest.param("GoodOnline", marks=SLOW), pytest.param("with_settings", marks=SLOW)],
)
def test_a_sound_strategy_passes(folder, name):
    run = conformance(folder, "--strategy", f"outside.rules:{name}")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "name, complaint",
    [
        ("CutsEveryStep", "masked oracle"),
        pytest.param("ForgetsLeak", "masked oracle", marks=SLOW),
        pytest.param("ForgetsDropout", "dropout", marks=SLOW),
        pytest.param("ClaimsAllChunks", "claims to be exact across chunks", marks=SLOW),
        pytest.param("ForgetsMemory", "claims to be exact across chunks", marks=SLOW),
        ("AveragesOverBatch", "memory: sequences mixed"),
        pytest.param("SpoilsMemory", "memory: changed in place", marks=SLOW),
        pytest.param("RefusesWithoutAWayOut", "names no strategy that can", marks=SLOW),
    ],
)
def test_a_broken_one_fails(folder, name, complaint):
    run = conformance(folder, "--strategy", f"outside.rules:{name}")
    assert run.returncode == 1, run.stdout + run.stderr
    assert complaint in run.stdout, run.stdout


@pytest.mark.parametrize(
    "options, complaint",
    [
        ([], "--strategy: must be given, as MODULE:NAME"),
        (["--strategy", "outside"], "--strategy=outside: must be MODULE:NAME"),
        (["--strategy", "nowhere:Good"], "--strategy=nowhere:Good: cannot be found"),
        (["--strategy", "outside.rules:Gone"], "--strategy=outside.rules:Gone: cannot be found"),
        (["--strategy", "outside.rules:claims"], "must be a GradientStrategy"),
    ],
)
def test_refuses(folder, options, complaint):
    run = conformance(folder, *options)
    assert run.returncode == 4, run.stdout + run.stderr
    assert complaint in run.stderr + run.stdout
