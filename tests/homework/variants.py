"""Right answers, written in other ways: none of them may lose a point."""

FORWARD_NUMPY = """
import numpy as np
def step(x_t, h_tm1, weight_ih, weight_hh, bias):
    x, h, U, W, b = map(np.asarray, (x_t, h_tm1, weight_ih, weight_hh, bias))
    a = np.einsum("hi,ni->nh", U, x) + np.dot(h, W.transpose()) + b
    return (np.exp(a) - np.exp(-a)) / (np.exp(a) + np.exp(-a))
def forward(input, hx, weight_ih, weight_hh, bias):
    T = input.shape[0]
    output = np.zeros((T, *hx.shape))
    for t in range(T):
        output[t] = step(input[t], output[t - 1] if t else hx, weight_ih, weight_hh, bias)
    return output, output[-1]
"""
FORWARD_LISTS = """
import math
def step(x_t, h_tm1, weight_ih, weight_hh, bias):
    return [
        [
            math.tanh(
                sum(float(u) * float(v) for u, v in zip(weight_ih[j], x))
                + sum(float(w) * float(v) for w, v in zip(weight_hh[j], h))
                + float(bias[j])
            )
            for j in range(len(bias))
        ]
        for x, h in zip(x_t, h_tm1)
    ]
def forward(input, hx, weight_ih, weight_hh, bias):
    def go(i, h):
        if i == len(input):
            return []
        new = step(input[i], h, weight_ih, weight_hh, bias)
        return [new] + go(i + 1, new)
    states = go(0, hx)
    return states, states[-1]
"""
FORWARD_TORCH = """
import torch
def step(x_t, h_tm1, weight_ih, weight_hh, bias):
    joint = torch.cat([weight_ih, weight_hh], 1)
    return torch.nn.functional.linear(torch.cat([x_t, h_tm1], 1), joint, bias).tanh_()
def forward(input, hx, weight_ih, weight_hh, bias):
    rnn = torch.nn.RNN(input.shape[2], hx.shape[1]).double()
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(weight_ih), rnn.weight_hh_l0.copy_(weight_hh)
        rnn.bias_ih_l0.copy_(bias), rnn.bias_hh_l0.zero_()
    output, h_n = rnn(input, hx[None])
    return output, h_n[0]
"""
ADJOINT_REVERSED = """
import numpy as np
def adjoint(q, h, weight_hh):
    q, h, W = q.numpy(), h.numpy(), weight_hh.numpy()
    credits, deltas, carry = [], [], 0
    for q_t, h_t in zip(q[::-1], h[::-1]):
        c = q_t + carry
        d = (1 - h_t) * (1 + h_t) * c
        credits.append(c), deltas.append(d)
        carry = np.einsum("nj,ji->ni", d, W)
    return credits[::-1], deltas[::-1]
"""
ADJOINT_SUMS = """
import torch
def adjoint(q, h, weight_hh):
    T = len(q)
    def J(t, n):
        return torch.diag(1 - h[t, n] ** 2) @ weight_hh
    def credit(s, n):
        total = 0
        for t in range(s, T):
            row = q[t, n]
            for j in range(t, s, -1):
                row = row @ J(j, n)
            total = total + row
        return total
    c = torch.stack([torch.stack([credit(s, n) for n in range(q.shape[1])]) for s in range(T)])
    return c, (1 - h * h) * c
"""
ADJOINT_RECURSION = """
def adjoint(q, h, weight_hh):
    if len(q) == 1:
        return [q[0]], [(1 - h[0].square()) * q[0]]
    credits, deltas = adjoint(q[1:], h[1:], weight_hh)
    c = q[0] + (weight_hh.T @ deltas[0].T).T
    return [c, *credits], [(1 - h[0].square()) * c, *deltas]
"""
ADJOINT_AUTOGRAD = """
import torch
def adjoint(q, h, weight_hh):
    rest = torch.atanh(h)
    rest[1:] -= h[:-1] @ weight_hh.T
    states, pre, state = [], [], None
    for r in rest:
        a = r.clone().requires_grad_() if state is None else r + state @ weight_hh.T
        state = torch.tanh(a)
        a.retain_grad(), state.retain_grad()
        states.append(state), pre.append(a)
    (torch.stack(states) * q).sum().backward()
    return torch.stack([s.grad for s in states]), torch.stack([a.grad for a in pre])
"""
ADJOINT_IN_PLACE = """
import torch
def adjoint(q, h, weight_hh):
    q = q.clone()
    delta = q.mul(1 - h * h)
    for t in reversed(range(1, len(q))):
        torch.mul(q[t], 1 - h[t] * h[t], out=delta[t])
        q[t - 1].addmm_(delta[t], weight_hh)
    delta[0] = q[0] * (1 - h[0] * h[0])
    return torch.stack([q, delta])
"""
WEIGHTS_EINSUM = """
import torch
def weight_gradients(delta, input, h, hx):
    before = torch.cat((hx.unsqueeze(0), h[:-1]), 0)
    N = delta.size(1)
    return (
        torch.einsum("tnh,tni->hi", delta, input) / N,
        torch.einsum("tnh,tnk->hk", delta, before) / N,
        delta.sum(0).mean(0),
    )
"""
WEIGHTS_FLAT = """
import numpy as np
def weight_gradients(delta, input, h, hx):
    T, N, H = delta.shape
    D = np.asarray(delta).reshape(T * N, H).T / N
    before = np.roll(np.asarray(h), 1, axis=0)
    before[0] = hx
    return D @ np.asarray(input).reshape(T * N, -1), D @ before.reshape(T * N, H), D.sum(axis=1)
"""
WEIGHTS_FLOATS = """
def weight_gradients(delta, input, h, hx):
    d, x, h, hx = delta.tolist(), input.tolist(), h.tolist(), hx.tolist()
    T, N, H, I = len(d), len(d[0]), len(d[0][0]), len(x[0][0])
    steps = [(t, n) for t in range(T) for n in range(N)]
    past = [hx] + h
    ih = [[sum(d[t][n][i] * x[t][n][j] for t, n in steps) / N for j in range(I)] for i in range(H)]
    hh = [[sum(d[t][n][i] * past[t][n][j] for t, n in steps) / N for j in range(H)]
          for i in range(H)]
    return ih, hh, [sum(d[t][n][i] for t, n in steps) / N for i in range(H)]
"""
WEIGHTS_FLOAT32 = """
import torch
def weight_gradients(delta, input, h, hx):
    delta, input, h, hx = (a.float() for a in (delta, input, h, hx))
    before = torch.cat([hx[None], h])[: len(h)]
    return (
        torch.stack([d.T @ x for d, x in zip(delta, input)]).sum(0) / delta.shape[1],
        torch.stack([d.T @ x for d, x in zip(delta, before)]).sum(0) / delta.shape[1],
        delta.mean(1).sum(0),
    )
"""
CHUNK_SPLIT = """
import torch
def chunk_gradients(q, input, h, hx, weight_hh, k):
    N = q.shape[1]
    total, state = None, hx
    for qs, xs, hs in zip(q.split(k), input.split(k), h.split(k)):
        before = torch.cat([state[None], hs[:-1]])
        carry, deltas = torch.zeros_like(hx), []
        for q_t, h_t in zip(reversed(qs), reversed(hs)):
            deltas.insert(0, (1 - h_t**2) * (q_t + carry))
            carry = deltas[0] @ weight_hh
        d = torch.stack(deltas)
        parts = [torch.einsum("tnh,tni->hi", d, v) / N for v in (xs, before)] + [d.sum((0, 1)) / N]
        total = parts if total is None else [a + b for a, b in zip(total, parts)]
        state = hs[-1]
    return total
"""
MASKED = """
import numpy as np
def {name}(q, input, h, hx, weight_hh, k):
    q, x, h, hx, W = (np.asarray(a) for a in (q, input, h, hx, weight_hh))
    T, N, H = q.shape
    ih, hh, b = np.zeros((H, x.shape[2])), np.zeros((H, H)), np.zeros(H)
    past = np.concatenate([hx[None], h])
    for n in range(N):
        for t in range(T):
            for s in range(t + 1):
                if not ({keep}):
                    continue
                v = q[t, n]
                for j in range(t, s, -1):
                    v = W.T @ np.diag(1 - h[j, n] ** 2) @ v
                v = (1 - h[s, n] ** 2) * v
                ih += np.outer(v, x[s, n]) / N
                hh += np.outer(v, past[s, n]) / N
                b += v / N
    return ih, hh, b
"""
LAG_ROUNDS = """
import torch
def lag_gradients(q, input, h, hx, weight_hh, k):
    slope = 1 - h**2
    credit = q.clone()
    for _ in range(k - 1):
        moved = (slope[1:] * credit[1:]) @ weight_hh
        credit = torch.cat([q[:-1] + moved, q[-1:]])
    delta = slope * credit / q.shape[1]
    before = torch.cat([hx[None], h[:-1]])
    flat = delta.flatten(0, 1).T
    return flat @ input.flatten(0, 1), flat @ before.flatten(0, 1), delta.sum(dim=(0, 1))
"""
AUTOGRAD = """
import torch
def {name}(q, input, h, hx, weight_hh, k):
    T, N, H = q.shape
    U = torch.zeros(H, input.shape[2], dtype=q.dtype, requires_grad=True)
    W = weight_hh.clone().requires_grad_()
    b = torch.zeros(H, dtype=q.dtype, requires_grad=True)
    states = [hx, *h]
    loss = 0
    for t in range(T):
        first = {first}
        state = states[first].detach()
        for s in range(first, t + 1):
            rest = torch.atanh(h[s]) - states[s] @ weight_hh.T
            state = torch.tanh(input[s] @ U.T + state @ W.T + b + rest)
        loss = loss + (q[t] * state).sum(1).mean()
    return torch.autograd.grad(loss, (U, W, b))
"""
RTRL_LOOPS = """
import numpy as np
def rtrl_step(influence, q_t, h_t, h_tm1, weight_hh):
    M, q, h, past, W = (a.numpy() for a in (influence, q_t, h_t, h_tm1, weight_hh))
    N, H = q.shape
    new = np.zeros_like(M)
    gradient = np.zeros((H, H))
    for n in range(N):
        for i in range(H):
            for j in range(H):
                for m in range(H):
                    a = (i == j) * past[n, m] + sum(W[i, l] * M[n, l, j, m] for l in range(H))
                    new[n, i, j, m] = (1 - h[n, i] ** 2) * a
                    gradient[j, m] += q[n, i] * new[n, i, j, m] / N
    return new.tolist(), gradient.tolist()
"""
RTRL_FLAT = """
import torch
def rtrl_step(influence, q_t, h_t, h_tm1, weight_hh):
    N, H = q_t.shape
    carried = (weight_hh @ influence.reshape(N, H, H * H)).reshape(N, H, H, H)
    immediate = torch.eye(H, dtype=h_t.dtype)[None, :, :, None] * h_tm1[:, None, None, :]
    new = (1 - h_t**2)[:, :, None, None] * (carried + immediate)
    return new, (q_t[:, None, :] @ new.reshape(N, H, -1)).mean(0).reshape(H, H)
"""
RTRL_IN_PLACE = """
import torch
def rtrl_step(influence, q_t, h_t, h_tm1, weight_hh):
    new = torch.tensordot(influence, weight_hh, dims=([1], [1])).permute(0, 3, 1, 2).contiguous()
    new.diagonal(dim1=1, dim2=2).add_(h_tm1[:, :, None])
    new.mul_((1 - h_t.pow(2))[..., None, None])
    return new, sum(torch.tensordot(q, M, 1) for q, M in zip(q_t, new)) / len(q_t)
"""
VARIANTS = [
    ("1_forward.py", "numpy", FORWARD_NUMPY),
    ("1_forward.py", "nested lists, recursion", FORWARD_LISTS),
    ("1_forward.py", "torch's own", FORWARD_TORCH),
    ("2_adjoint.py", "reversed lists", ADJOINT_REVERSED),
    ("2_adjoint.py", "sums of products", ADJOINT_SUMS),
    ("2_adjoint.py", "recursion", ADJOINT_RECURSION),
    ("2_adjoint.py", "autograd", ADJOINT_AUTOGRAD),
    ("2_adjoint.py", "in place, stacked", ADJOINT_IN_PLACE),
    ("3_weights.py", "einsum", WEIGHTS_EINSUM),
    ("3_weights.py", "one product, numpy", WEIGHTS_FLAT),
    ("3_weights.py", "floats", WEIGHTS_FLOATS),
    ("3_weights.py", "float32", WEIGHTS_FLOAT32),
    ("4_chunk.py", "split", CHUNK_SPLIT),
    ("4_chunk.py", "mask", MASKED.format(name="chunk_gradients", keep="t // k == s // k")),
    ("4_chunk.py", "autograd", AUTOGRAD.format(name="chunk_gradients", first="t // k * k")),
    ("5_lag.py", "rounds", LAG_ROUNDS),
    ("5_lag.py", "mask", MASKED.format(name="lag_gradients", keep="t - s < k")),
    ("5_lag.py", "autograd", AUTOGRAD.format(name="lag_gradients", first="max(0, t - k + 1)")),
    ("6_rtrl.py", "loops", RTRL_LOOPS),
    ("6_rtrl.py", "flat", RTRL_FLAT),
    ("6_rtrl.py", "in place", RTRL_IN_PLACE),
]
