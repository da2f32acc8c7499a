"""A right answer to each exercise, as a student may write it, to plant mistakes in."""

import types

from bptt_lab.commands.homework import exercise, exercises, worker

FORWARD = """
import torch
def step(x_t, h_tm1, weight_ih, weight_hh, bias):
    return torch.tanh(x_t @ weight_ih.T + h_tm1 @ weight_hh.T + bias)
def forward(input, hx, weight_ih, weight_hh, bias):
    h = hx
    output = []
    for t in range(len(input)):
        h = step(input[t], h, weight_ih, weight_hh, bias)
        output.append(h)
    return torch.stack(output), h
"""
ADJOINT = """
import torch
def adjoint(q, h, weight_hh):
    T = len(q)
    slope = 1 - h**2
    credit, delta = q.clone(), torch.zeros_like(q)
    for t in range(T - 1, -1, -1):
        if t < T - 1:
            credit[t] = q[t] + (slope[t + 1] * credit[t + 1]) @ weight_hh
        delta[t] = slope[t] * credit[t]
    return credit, delta
"""
WEIGHTS = """
import torch
def weight_gradients(delta, input, h, hx):
    T, N, H = delta.shape
    ih, hh, b = 0, 0, 0
    for t in range(T):
        before = h[t - 1] if t > 0 else hx
        ih = ih + delta[t].T @ input[t]
        hh = hh + delta[t].T @ before
        b = b + delta[t].sum(0)
    return ih / N, hh / N, b / N
"""
CHUNK = """
import torch
def chunk_gradients(q, input, h, hx, weight_hh, k):
    T, N, H = q.shape
    slope = 1 - h**2
    before = torch.cat([hx[None], h[:-1]])
    carry = torch.zeros_like(hx)
    ih, hh, b = 0, 0, 0
    for t in range(T - 1, -1, -1):
        if (t + 1) % k == 0:
            carry = torch.zeros_like(hx)
        delta = slope[t] * (q[t] + carry)
        ih = ih + delta.T @ input[t]
        hh = hh + delta.T @ before[t]
        b = b + delta.sum(0)
        carry = delta @ weight_hh
    return ih / N, hh / N, b / N
"""
LAG = """
import torch
def lag_gradients(q, input, h, hx, weight_hh, k):
    T, N, H = q.shape
    slope = 1 - h**2
    before = torch.cat([hx[None], h[:-1]])
    ih, hh, b = 0, 0, 0
    for t in range(T):
        credit = q[t]
        for s in range(t, max(-1, t - k), -1):
            delta = slope[s] * credit
            ih = ih + delta.T @ input[s]
            hh = hh + delta.T @ before[s]
            b = b + delta.sum(0)
            credit = delta @ weight_hh
    return ih / N, hh / N, b / N
"""
RTRL = """
import torch
def rtrl_step(influence, q_t, h_t, h_tm1, weight_hh):
    N, H = q_t.shape
    slope = 1 - h_t**2
    J = slope[:, :, None] * weight_hh
    new = torch.einsum("nil,nljm->nijm", J, influence)
    for i in range(H):
        new[:, i, i, :] += slope[:, i, None] * h_tm1
    gradient = torch.einsum("ni,nijm->jm", q_t, new) / N
    return new, gradient
"""
RIGHT = {
    "1_forward.py": FORWARD,
    "2_adjoint.py": ADJOINT,
    "3_weights.py": WEIGHTS,
    "4_chunk.py": CHUNK,
    "5_lag.py": LAG,
    "6_rtrl.py": RTRL,
}
BY_FILE = {e.file: e for e in exercises.ALL}


def grade(file: str, code: str) -> exercise.Verdict:
    """Grade code in this process."""
    module = types.ModuleType("answer")
    module.__file__ = "answer.py"
    exec(compile(code, "answer.py", "exec"), module.__dict__)
    calls = BY_FILE[file].calls()
    return exercise.judge(BY_FILE[file], {n: worker.ask(module, c) for n, c in calls.items()})


def planted(file: str, *replacements: tuple[str, str]) -> exercise.Verdict:
    """Grade the right answer with pieces of it replaced, each of which it must hold."""
    code = RIGHT[file]
    for old, new in replacements:
        assert old in code, old
        code = code.replace(old, new)
    return grade(file, code)


def findings(verdict: exercise.Verdict) -> list[str]:
    return [finding for part in verdict.parts for finding in part.findings]
