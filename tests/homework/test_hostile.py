"""Answers that are no answers: each gets a sentence, and the grader goes on."""

import pytest

from .answers import ADJOINT, RIGHT, findings, grade, planted

HEAD = "import torch\nimport numpy as np\n"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("pass", "returns None: is there a return?"),
        ("return q", "returns 4 things, must return 2: credit, delta"),
        ("return 3", "returns a int, must return credit, delta"),
        ("return 'c', 'd'", "returns a str where a tensor, array or list of numbers is asked"),
        ("return q, None", "returns a NoneType where"),
        ("return q, q[0]", "returns delta of shape (1, 5), must be (4, 1, 5)"),
        ("return q * float('nan'), q", "returns credit that is nan at index [0, 0, 0]"),
        ("return q, q / 0", "returns delta that is infinite at index"),
        (
            "return [[1], [2, 3]], q",
            "returns credit that is no tensor, array or list of numbers in",
        ),
        ("return torch.zeros(10**6), q", "returns 1000000 numbers, which is too many"),
        ("return q + 1j, q", "returns complex numbers"),
        ("return q.tolist(), iter(q)", "returns a"),
        ("raise ValueError('no\\nway\\x1b[31m')", "raises ValueError in line 4: no way"),
        ("return 1 / 0", "raises ZeroDivisionError in line 4: division by zero"),
        ("exit()", "ends the program"),
        ("raise KeyboardInterrupt", "raises KeyboardInterrupt in line 4"),
        ("return adjoint(q, h, weight_hh)", "raises RecursionError in line 4"),
        ("class E(Exception):\n        __str__ = None\n    raise E", "raises E in line 6"),
        ("import lightning_is_not_there", "raises ModuleNotFoundError in line 4"),
        ("input('yes?')", "raises"),
    ],
)
def test_no_answer(body, sentence, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: 1 / 0)
    verdict = grade("2_adjoint.py", f"{HEAD}def adjoint(q, h, weight_hh):\n    {body}\n")
    assert verdict.points == 0 and verdict.status == "wrong"
    assert any(sentence in finding for finding in findings(verdict)), findings(verdict)
    assert sum("returns" in f or "raises" in f for f in findings(verdict)) <= 2  # said once


@pytest.mark.parametrize("file", RIGHT)
def test_zeros_get_nothing(file):
    head = RIGHT[file].replace("return torch.tanh(", "return 0 * (").replace("import torch", HEAD)
    zeros = {
        "1_forward.py": "0 * torch.stack(output), 0 * h",
        "2_adjoint.py": "0 * credit, 0 * delta",
        "6_rtrl.py": "0 * new, 0 * gradient",
    }.get(file, "0 * ih, 0 * hh, 0 * b")
    code = "\n".join(
        f"{line.partition('return')[0]}return {zeros}"
        if line.lstrip().startswith("return ") and "," in line
        else line
        for line in head.splitlines()
    )
    assert grade(file, code).points == 0, findings(grade(file, code))


def test_a_hole_is_not_done_yet():
    verdict = grade(
        "2_adjoint.py", "def adjoint(q, h, weight_hh):\n    raise NotImplementedError\n"
    )
    assert (verdict.status, verdict.points, findings(verdict)) == ("not done", 0, [])


def test_a_function_that_is_not_there():
    (finding,) = findings(grade("2_adjoint.py", "x = 1\n"))
    assert "the file has no function adjoint" in finding


def test_a_half_done_exercise_gets_its_points():
    code = "import torch\ndef step(x_t, h_tm1, weight_ih, weight_hh, bias):\n"
    code += "    return torch.tanh(x_t @ weight_ih.T + h_tm1 @ weight_hh.T + bias)\n"
    code += "def forward(input, hx, weight_ih, weight_hh, bias):\n    raise NotImplementedError\n"
    verdict = grade("1_forward.py", code)
    assert (verdict.status, verdict.points) == ("wrong", 4)
    assert [part.not_done for part in verdict.parts] == [False, True, True, True]


def test_arguments_that_are_changed_are_told_and_cost_nothing():
    verdict = grade("2_adjoint.py", ADJOINT.replace("q.clone()", "q"))
    assert verdict.points == 10
    assert verdict.notes == ["changes its argument q; whoever calls it may still need that"]


def test_an_answer_that_depends_on_the_calls_before():
    code = ADJOINT.replace("    T =", "    calls.append(1)\n    T =").replace(
        "import torch", "import torch\ncalls = []"
    )
    last = code.replace(
        "return credit, delta", "return (credit, delta) if len(calls) < 23 else (h, h)"
    )
    assert grade("2_adjoint.py", code).points == 10
    assert grade("2_adjoint.py", last).points == 9


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ("q[t] + torch.sin(slope[t + 1] * credit[t + 1]) @ weight_hh", "must be"),
        ("q[t] + (slope[t + 1] * credit[t + 1] * 0.3) @ weight_hh", "is 0.3 times what it should"),
        ("q[t] + 0.1", "is [0.1, 0.1, 0.1, 0.1, ...] where q is 0 at all steps"),
    ],
)
def test_an_unknown_mistake_is_shown_and_not_named(new, sentence):
    old = "q[t] + (slope[t + 1] * credit[t + 1]) @ weight_hh"
    found = findings(grade("2_adjoint.py", ADJOINT.replace(old, new)))
    assert sentence in found[0], found
    assert not any("explains" in finding for finding in found)


def test_arguments_may_have_other_names():
    code = "def adjoint(Q, states, W):\n    return inner(Q, states, W)\n"
    verdict = grade(
        "2_adjoint.py", RIGHT["2_adjoint.py"].replace("def adjoint", "def inner") + code
    )
    assert verdict.points == 10, findings(verdict)


def test_a_right_gradient_beside_a_wrong_influence_is_right():
    verdict = planted("6_rtrl.py", ("return new, gradient", "return influence, gradient"))
    right = [part.name for part in verdict.parts if part.right]
    assert "the gradient: q_t M_t" in right and "the gradient is the mean over sequences" in right


def test_an_operation_that_torch_lacks_is_an_error_and_no_hole():
    code = f"{HEAD}def adjoint(q, h, weight_hh):\n    torch.linalg.inv(q.to_sparse())\n"
    verdict = grade("2_adjoint.py", code)
    assert verdict.status == "wrong"
    assert "raises NotImplementedError in line 4: Could not run" in findings(verdict)[0]
