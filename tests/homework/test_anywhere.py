"""One factor of one term is edited, where and how chance says: the grader finds it."""

import random

import pytest

from .answers import findings, grade

CODE = """
import numpy as np
def {name}(q, {rest}):
    q, h, W = (np.asarray(a) for a in (q, h, weight_hh))
    {more}
    T, N, H = q.shape
    credit, delta = np.zeros_like(q), np.zeros_like(q)
    for n in range(N):
        for t in range(1, T + 1):
            for s in range(1, t + 1):
                if not ({keep}):
                    continue
                v = q[t - 1, n]
                for j in range(t, s, -1):
                    here = {where}
                    slope = 1 - h[j - 1, n] ** 2
                    v = {phi}
                    v = {matrix}
                credit[s - 1, n] += v
                delta[s - 1, n] += (1 - h[s - 1, n] ** 2) * v
    {end}
"""
WEIGHTS = """past = np.concatenate([hx[None], h[:-1]])
    ih = np.einsum("tnh,tni->hi", delta, np.asarray(input)) / N
    return ih, np.einsum("tnh,tni->hi", delta, past) / N, delta.sum((0, 1)) / N"""
FILES = {
    "2_adjoint.py": ("adjoint", "h, weight_hh", "True", "return credit, delta"),
    "4_chunk.py": (
        "chunk_gradients",
        "input, h, hx, weight_hh, k",
        "(t - 1) // k == (s - 1) // k",
        WEIGHTS,
    ),
    "5_lag.py": ("lag_gradients", "input, h, hx, weight_hh, k", "t - s < k", WEIGHTS),
}
EDITS = {
    "lacks phi'(a_{j})": ("v if here else slope * v", "W.T @ v"),
    "has phi'(a_{j}) twice": ("slope**2 * v if here else slope * v", "W.T @ v"),
    "has 1 - tanh(h_{j})^2": (
        "(1 - np.tanh(h[j - 1, n]) ** 2 if here else slope) * v",
        "W.T @ v",
    ),
    "has W_hh for its transpose": ("slope * v", "(W if here else W.T) @ v"),
    "lacks W_hh^T": ("slope * v", "v if here else W.T @ v"),
    "has W_hh^T twice": ("slope * v", "W.T @ W.T @ v if here else W.T @ v"),
    "has the wrong sign": ("slope * v", "(-W.T if here else W.T) @ v"),
}


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=[pytest.mark.slow] if s >= 4 else []) for s in range(40)]
)
def test_an_edit_at_one_place_is_found_there(seed):
    draw = random.Random(seed)
    t = draw.randint(2, 4)
    s = draw.randint(1, t - 1)
    j = draw.randint(s + 1, t)
    file, (sentence, (phi, matrix)) = draw.choice([*FILES]), draw.choice([*EDITS.items()])
    name, rest, keep, end = FILES[file]
    where = f"(t, s, j) == ({t}, {s}, {j})"
    more = "hx = np.asarray(hx)" if "hx" in rest else ""
    code = CODE.format(
        name=name, rest=rest, keep=keep, where=where, phi=phi, matrix=matrix, end=end, more=more
    )
    found = findings(grade(file, code))
    wanted = f"t={t}, s={s}", sentence.replace("{j}", str(j))
    assert any(all(w in finding for w in wanted) for finding in found), (wanted, found)
