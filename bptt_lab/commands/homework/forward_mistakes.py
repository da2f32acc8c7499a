"""Mistakes as data: what somebody makes of the forward pass. A new mistake is a line here."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bptt_lab.commands.homework.words import Array


class Weights(NamedTuple):
    """W_ih (H, I), W_hh (H, H) and b (H,)."""

    ih: Array
    hh: Array
    bias: Array


# Mistakes as data: what stands for tanh, W_ih x_t, W_hh h_{t-1}, b, and what is done besides.
OUTER: Mapping[str, Callable[[Array], Array]] = {
    "": np.tanh,
    "tanh is lacking": lambda a: a,
    "tanh stands twice": lambda a: np.tanh(np.tanh(a)),
    "the logistic function for tanh": lambda a: 1 / (1 + np.exp(-a)),
    "relu for tanh": lambda a: np.maximum(a, 0),
    "phi' = 1 - tanh(a_t)^2 for tanh": lambda a: 1 - np.tanh(a) ** 2,
    "the wrong sign of h_t": lambda a: -np.tanh(a),
    "sin for tanh": np.sin,
}
Product = Callable[[Array, Weights], Array]
INPUT: Mapping[str, Product] = {
    "": lambda x, w: x @ w.ih.T,
    "W_ih is transposed": lambda x, w: x @ w.ih,
    "x_t without W_ih": lambda x, w: x,
    "W_hh for W_ih": lambda x, w: x @ w.hh.T,
}
STATE: Mapping[str, Product] = {
    "": lambda h, w: h @ w.hh.T,
    "W_hh is transposed": lambda h, w: h @ w.hh,
    "h_{t-1} without W_hh": lambda h, w: h,
    "W_ih for W_hh": lambda h, w: h @ w.ih.T,
    "only the diagonal of W_hh is used": lambda h, w: h * np.diag(w.hh),
    "tanh(h_{t-1}) for h_{t-1}": lambda h, w: np.tanh(h) @ w.hh.T,
    "W_hh stands twice": lambda h, w: h @ w.hh.T @ w.hh.T,
}
TIMES: Mapping[str, float] = {
    "": 1,
    "{} is lacking": 0,
    "the wrong sign of {}": -1,
    "{} counts twice": 2,
}
ADDENDS = ("W_ih x_t", "W_hh h_{t-1}", "the bias")
# How the three parts and the outer function make h_t.
JOINED: Mapping[str, Callable[[Callable[[Array], Array], Array, Array, Array], Array]] = {
    "": lambda phi, x, h, b: phi(x + h + b),
    "the bias is added outside tanh": lambda phi, x, h, b: phi(x + h) + b,
    "W_ih x_t is added outside tanh": lambda phi, x, h, b: phi(h + b) + x,
    "W_hh h_{t-1} is added outside tanh": lambda phi, x, h, b: phi(x + b) + h,
    "tanh of each part, not of their sum": lambda phi, x, h, b: phi(x) + phi(h) + phi(b),
    "tanh of W_ih x_t by itself, not of the sum": lambda phi, x, h, b: phi(x) + phi(h + b),
    "tanh of W_hh h_{t-1} by itself, not of the sum": lambda phi, x, h, b: phi(x + b) + phi(h),
    "tanh of W_ih x_t and of W_hh h_{t-1}, not of the sum, and the bias outside": (
        lambda phi, x, h, b: phi(x) + phi(h) + b
    ),
}
BESIDES: Mapping[str, Callable[[Array, Array], Array]] = {
    "": lambda h, before: h,
    "h_{t-1} is added to h_t": lambda h, before: h + before,
    "h_t is multiplied by h_{t-1}": lambda h, before: h * before,
    "h_t is the mean of h_{t-1} and tanh(a_t)": lambda h, before: (h + before) / 2,
    "the sequences are averaged": lambda h, before: 0 * h + h.mean(0),
}
TIMES_OF = [{n.replace("{}", addend): c for n, c in TIMES.items()} for addend in ADDENDS]
FIELDS: Sequence[Mapping[str, object]] = (OUTER, INPUT, STATE, *TIMES_OF, JOINED, BESIDES)
RIGHT = ("",) * len(FIELDS)
# Which input and which state a step of the pass takes, of t and T; None for zeros.
TAKES_INPUT: Mapping[str, Callable[[int, int], int | None]] = {
    "": lambda t, T: t,
    "x_{t-1} for x_t, and 0 at t=1": lambda t, T: t - 1 if t > 1 else None,
    "x_{t-1} for x_t, and x_T at t=1 (index -1)": lambda t, T: t - 1 if t > 1 else T,
    "x_{t-1} for x_t, and x_1 at t=1": lambda t, T: max(t - 1, 1),
    "x_{t+1} for x_t, and x_1 at t=T": lambda t, T: t % T + 1,
    "x_{t+1} for x_t, and x_T at t=T": lambda t, T: min(t + 1, T),
    "x_{t+1} for x_t, and 0 at t=T": lambda t, T: t + 1 if t < T else None,
    "the inputs are taken in reverse order": lambda t, T: T + 1 - t,
    "x_1 at every step": lambda t, T: 1,
}
TAKES_STATE: Mapping[str, Callable[[int, int], int | None]] = {
    "": lambda t, T: t - 1,
    "hx is not used: zeros for h_0, the carried state is forgotten": (
        lambda t, T: t - 1 if t > 1 else None
    ),
    "the state is not carried on: h_0 for h_{t-1} at every step": lambda t, T: 0,
    "the state is reset to 0 at every step": lambda t, T: None,
    "the state is reset to 0 at every step but the first": lambda t, T: 0 if t == 1 else None,
    "h_{t-2} for h_{t-1}, and h_0 at t=1": lambda t, T: max(t - 2, 0),
    "h_{t-2} for h_{t-1}, and zeros at t=1": lambda t, T: t - 2 if t > 1 else None,
    "h_1 for h_{t-1} after t=1": lambda t, T: min(t - 1, 1),
}
# Mistakes as data: what somebody hands on for h_n.
LAST: Mapping[str, Callable[[Array, Array], Array]] = {
    "is h_1, the first state": lambda output, hx: output[0],
    "is h_{T-1}": lambda output, hx: output[-2] if len(output) > 1 else hx,
    "is hx, the state before the first step": lambda output, hx: hx,
    "is 0": lambda output, hx: 0 * hx,
    "is the mean of all states": lambda output, hx: output.mean(0),
    "is the sum of all states": lambda output, hx: output.sum(0),
}
