"""Each example as a reader runs it: as a process, its figure written, its claims true."""

import re
from pathlib import Path

import pytest
from commands import Forked

EXAMPLES = Path(__file__).parent.parent / "examples"
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?"


@pytest.fixture
def run(tmp_path):
    """Run an example and return what it printed."""

    def run(name: str, figure: str) -> str:
        arguments = (str(EXAMPLES / f"{name}.py"), str(tmp_path / "figures"))
        example = Forked("commands:script", arguments, tmp_path)
        out, err = example.communicate()
        assert (example.returncode, err) == (0, "")
        picture = tmp_path / "figures" / figure
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
        assert [*tmp_path.iterdir()] == [picture.parent]  # no litter where the reader stands
        return out

    return run


def numbers(text: str, after: str) -> list[float]:
    """Every number of the line that begins so."""
    (line,) = re.findall(rf"^{re.escape(after)}(.*)$", text, re.MULTILINE)
    return [float(number) for number in re.findall(NUMBER, line)]


def test_they_are_short_notebooks():
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 4
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 100, script
        assert text.count("# %%\n") >= 3 and text.count("# %% [markdown]") >= 3, script


def test_see_a_gradient_vanish(run):
    text = run("see_a_gradient_vanish", "credit_by_lag.png")
    vanishing, chaotic = numbers(text, "gain 0.5, tanh"), numbers(text, "gain 2, tanh")
    assert vanishing[0] < -0.2 and chaotic[0] > 0.01
    assert abs(numbers(text, "orthogonal, linear")[0]) < 1e-6
    for slope, exponent in (vanishing, chaotic):
        assert slope == pytest.approx(exponent, abs=0.01)


def test_break_bptt(run):
    text = run("break_bptt", "broken_bptt.png")
    assert numbers(text, "correct")[0] < 1e-12 and "passes" in text
    for broken in ("phi' forgotten", "cut one step off", "state reset too"):
        assert numbers(text, broken)[0] > 0.1
    assert text.count("CAUGHT") == 3


def test_what_does_k_mean(run):
    text = run("what_does_k_mean", "what_k_means.png")
    assert numbers(text, "chunk     ") == [30, 1, 4, 2.5]
    assert numbers(text, "lag     ") == [42, 4, 4, 4]
    assert numbers(text, "window     ") == [38, 3, 4, 3.5]
    assert numbers(text, "tail     ") == [10, 0, 4, 1.25]
    modes = ("lag", "window", "chunk", "tail")
    errors = [numbers(text, f"{mode:6} relative error") for mode in modes]
    at_8 = [error[0] for error in errors]
    assert at_8 == sorted(at_8) and at_8[0] < 0.3 < 0.8 < at_8[-1]
    assert all(error[-1] < 1e-12 for error in errors)
    assert numbers(text, "lag by its spectrum and by its strategy differ by")[0] < 1e-12


@pytest.mark.slow
def test_tbptt_in_lightning(run):
    text = run("tbptt_in_lightning", "tbptt_in_lightning.png")
    one, two, five = (numbers(text, f"k = {k:2}:")[0] for k in (1, 2, 5))
    assert 0.51 < five < 0.535  # lag 3's floor is 0.5192
    assert min(one, two) > 0.56
