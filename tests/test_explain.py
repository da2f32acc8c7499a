"""bptt-explain against plain Python numbers, the oracle and autograd, read back from its text."""

import math
import re
import sys

import pytest
import torch

from bptt_lab.commands.explain import example as examples
from bptt_lab.commands.explain.cli import main
from bptt_lab.commands.explain.derivation import Derivation
from bptt_lab.commands.explain.example import compare, finite_differences, gradient
from bptt_lab.config.strategies import packaged
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.oracle import masked_gradient
from bptt_lab.gradients.oracle import terms as oracle_terms
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.training import style

NUMBER = r"-?\d+\.\d+"
EXAMPLES = [examples.fixed(3), examples.fixed(4), examples.random(3, 0), examples.random(4, 1)]


def output(capsys, *argv: str) -> str:
    assert main(argv) == 0
    return capsys.readouterr().out


def section(text: str, number: int) -> str:
    begin = text.index(f"\n{number}. ")
    end = text.find(f"\n{number + 1}. ")
    return text[begin : end if end > 0 else None]


def value(text: str, formula: str) -> list[float]:
    """The numbers beside a formula, of its line and of the lines that hold nothing else."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{formula}  "))
    numbers = re.findall(NUMBER, lines[at].strip()[len(formula) :])
    for line in lines[at + 1 :]:
        if not re.fullmatch(rf"\s*\[(\s*{NUMBER})+\s*\]", line):
            break
        numbers += re.findall(NUMBER, line)
    return [float(number) for number in numbers]


def plain_lag_2() -> list[float]:
    """q_3 J_3 J_2 Mbar_1 of the fixed example with nothing but floats: no torch, no shared code."""
    h, states, slopes = (0.5, -0.3), [], []
    for x in (1.0, -0.5, 0.5):
        states.append(h)
        h = (
            math.tanh(0.6 * x + 0.9 * h[0] - 0.5 * h[1]),
            math.tanh(-0.4 * x + 0.4 * h[0] + 0.8 * h[1]),
        )
        slopes.append((1 - h[0] ** 2, 1 - h[1] ** 2))
    z = (h[0] - 0.5 * h[1], -0.8 * h[0] + 0.7 * h[1])
    y = math.exp(z[0]) / (math.exp(z[0]) + math.exp(z[1]))
    # E_3 = (0 - y)^2 + (1 - (1 - y))^2 = 2 y^2, and dy/d(z_0 - z_1) = y (1 - y).
    g = 4 * y * y * (1 - y)
    r = (g * (1.0 + 0.8), g * (-0.5 - 0.7))
    for slope in (slopes[2], slopes[1]):
        r = (
            r[0] * slope[0] * 0.9 + r[1] * slope[1] * 0.4,
            r[0] * slope[0] * -0.5 + r[1] * slope[1] * 0.8,
        )
    delta = (slopes[0][0] * r[0], slopes[0][1] * r[1])
    return [delta[i] * states[0][j] for i in (0, 1) for j in (0, 1)]


def test_a_term_by_hand(capsys):
    text = output(capsys, "--digits", "12")
    printed = value(section(text, 5), "q_3 J_3 J_2 Mbar_1")
    assert printed == pytest.approx(plain_lag_2(), abs=1e-12)
    assert math.hypot(*printed) > 0.1  # the state before the first step leaves it something


def test_forward_values_by_hand(capsys):
    text = section(output(capsys), 2)
    assert value(text, "a_1 = U x_1 + W h_0") == pytest.approx([1.2, -0.44])
    assert value(text, "h_1 = tanh(a_1)") == pytest.approx(
        [math.tanh(1.2), math.tanh(-0.44)], abs=5e-6
    )
    z = value(text, "z_1 = V h_1")
    y = math.exp(z[0]) / (math.exp(z[0]) + math.exp(z[1]))
    assert value(text, "ybar_1 = exp(z_1) / sum(exp(z_1))") == pytest.approx([y, 1 - y], abs=1e-5)
    assert value(text, "E_1 = sum((d_1 - ybar_1)^2)") == pytest.approx([2 * (1 - y) ** 2], abs=1e-5)


@pytest.mark.parametrize("argv", [[], ["--all"], ["--steps", "4", "--seed", "7", "--all"]])
def test_the_printed_numbers_agree_with_one_another(argv, capsys):
    text = output(capsys, *argv, "--digits", "9")
    parts = re.findall(r"^  (q_\d[^=]*?Mbar_\d)  ", section(text, 5), re.MULTILINE)
    T = 4 if "4" in argv else 3
    assert len(parts) == (T * (T + 1) // 2 if "--all" in argv else T)
    added = [sum(v) for v in zip(*(value(section(text, 5), p) for p in parts), strict=True)]
    for name in ("sum of terms", "adjoint recursion", "torch's autograd", "finite differences"):
        assert value(section(text, 7), name) == pytest.approx(added, abs=1e-8), name


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("everywhere", [False, True])
def test_four_answers(example, everywhere):
    T = example.num_steps
    at = list(range(1, T + 1)) if everywhere else [T]
    worked = Derivation(example, at)
    full = gradient(example, Autograd(), at)
    torch.testing.assert_close(worked.total, full, atol=1e-12, rtol=0)
    torch.testing.assert_close(worked.by_adjoint, full, atol=1e-12, rtol=0)
    torch.testing.assert_close(finite_differences(example, at), full, atol=1e-8, rtol=0)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_term_is_the_oracles(example):
    G = oracle_terms(
        examples.network(example),
        example.x[:, None],
        lambda states: examples.losses(example, states[:, 0]).sum(),
        example.h_0[None, None],
    )
    at = range(1, example.num_steps + 1)
    for term in Derivation(example, at).terms:
        expected = G["weight_hh_l0"][term.t - 1, term.s - 1]
        torch.testing.assert_close(term.value, expected, atol=1e-12, rtol=0)
    for mode in ("chunk", "lag", "window", "tail"):
        found = compare(example, Truncated(k=2, mode=mode), at)
        masked = masked_gradient(G, found.mask)["weight_hh_l0"]
        torch.testing.assert_close(found.gradient, masked, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("argv", "kept"),
    [
        (["--k", "1"], [0]),
        (["--k", "2"], [0, 1]),
        (["--k", "3"], [0, 1, 2]),
        (["--k", "2", "--mode", "chunk"], [0]),
        (["--k", "2", "--mode", "tail"], [0, 1]),
        (["--gradient", "full"], [0, 1, 2]),
        (["--gradient", "checkpointed"], [0, 1, 2]),
    ],
)
def test_what_a_strategy_keeps(argv, kept, capsys):
    text = output(capsys, *argv, "--digits", "9")
    kept_part = section(text, 8)
    lags = {
        int(lag): state for state, lag in re.findall(r"^  (kept|cut ) +lag (\d)", kept_part, re.M)
    }
    assert [lag for lag, state in lags.items() if state == "kept"] == kept
    names = ["q_3 Mbar_3", "q_3 J_3 Mbar_2", "q_3 J_3 J_2 Mbar_1"]
    parts = [value(section(text, 5), name) for name in names]
    left = [sum(parts[lag][i] for lag in kept) for i in range(4)]
    full = [sum(part[i] for part in parts) for i in range(4)]
    assert value(kept_part, "dE_3/dW that it leaves") == pytest.approx(left, abs=1e-8)
    assert value(kept_part, f"the sum of the {len(kept)} kept") == pytest.approx(left, abs=1e-8)
    cosine = sum(a * b for a, b in zip(left, full, strict=True))
    cosine /= math.hypot(*left) * math.hypot(*full)
    error = math.dist(left, full) / math.hypot(*full)
    assert value(kept_part, "cosine of the two") == pytest.approx([cosine], abs=1e-7)
    assert value(kept_part, "|difference| / |full|") == pytest.approx([error], abs=1e-7)


@pytest.mark.parametrize("name", packaged().trusted())
def test_every_option_can_be_explained(name, capsys):
    text = output(capsys, "--gradient", name)
    assert value(section(text, 8), "dE_3/dW, full") == value(section(text, 7), "torch's autograd")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A strategy of a user's that truncates, its option in a folder of his."""
    (tmp_path / "mine.py").write_text(
        "from bptt_lab.gradients.truncated import Truncated\n\n\n"
        "class Mine(Truncated):\n"
        "    def __init__(self, *, k: int = 16) -> None:\n"
        "        super().__init__(k=k, mode='tail')\n"
    )
    folder = tmp_path / "options" / "gradient"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: mine.Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "--gradient", "mine", "--config-dir", "options"
    sys.modules.pop("mine", None)


def test_a_strategy_of_a_folder_is_explained_like_ours(plugin, capsys):
    ours = section(output(capsys, "--mode", "tail"), 8)
    assert section(output(capsys, *plugin, "--allow", "mine"), 8) == ours
    deeper = section(output(capsys, *plugin, "--allow", "mine", "--k", "3"), 8)
    assert deeper == section(output(capsys, "--mode", "tail", "--k", "3"), 8)


def test_a_foreign_class_is_not_imported_unless_it_is_allowed(plugin, capsys):
    assert main(plugin) == 2
    assert "mine.Mine: is not in bptt_lab" in capsys.readouterr().err
    assert "mine" not in sys.modules


def test_the_seed_decides_the_numbers(capsys):
    fixed, one, again, two = (
        output(capsys, *argv) for argv in ([], ["--seed", "1"], ["--seed", "1"], ["--seed", "2"])
    )
    assert one == again and len({fixed, one, two}) == 3


@pytest.mark.parametrize("argv", [[], ["--all", "--steps", "4"], ["--seed", "5", "--digits", "12"]])
def test_it_fits_a_terminal(argv, capsys):
    text = output(capsys, *argv)
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii() and "\x1b" not in text
    assert not re.search(r" $|-0\.0+\b(?!\d)", text, re.M)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_figure(suffix, tmp_path, capsys):
    path = tmp_path / f"paths.{suffix}"
    assert "figure" in output(capsys, "--figure", str(path))
    first = path.read_bytes()
    assert len(first) > 5000
    output(capsys, "--figure", str(path))
    assert path.read_bytes() == first
    output(capsys, "--k", "1", "--figure", str(path))
    assert path.read_bytes() != first


def test_a_figure_without_a_mask_says_so(capsys, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(style, "save", lambda figure, path: drawn.append(figure))
    output(capsys, "--gradient", "kf_rtrl", "--figure", str(tmp_path / "x.png"))
    (axes,) = drawn[0].axes
    assert drawn[0].get_suptitle() == "No mask describes KFRTRL(seed=0)"
    lanes = {text.get_color() for text in axes.texts if text.get_text().startswith("lag ")}
    assert lanes == {style.GREY}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--k", "0"], "k=0: must be at least 1"),
        (["--k", "two"], "k=two: must be an integer"),
        (["--mode", "nix"], "explain: --mode=nix: must be one of chunk, lag, window, tail"),
        (["--gradient", "full", "--k", "2"], "explain: --k=2: there is no such setting"),
        (["--gradient", "nix"], "must be one of adaptive, artbp, autograd"),
        (["--gradient", "../dataset/text"], "must be one of adaptive, artbp, autograd"),
        (["--config-dir", "nowhere"], "nowhere: is not a folder"),
        (["--steps", "5"], "--steps=5: must be at most 4"),
        (["--digits", "99"], "--digits"),
        (["--figure", "paths.txt"], "must end in .png"),
        (["--figure", "nowhere/paths.png"], "there is no folder nowhere"),
        (["nix"], "nix"),
    ],
)
def test_what_cannot_work_takes_one_line(argv, says, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and says in err, err
