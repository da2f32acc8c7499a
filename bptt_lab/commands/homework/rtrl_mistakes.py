"""Mistakes as data: what somebody makes of a step of RTRL. A new mistake is a line here."""

from collections.abc import Callable, Mapping

import numpy as np

from bptt_lab.commands.homework.words import SLOPES, Array

Slope = Callable[[Array, Array], Array]

# Mistakes as data: what somebody carries of M (H, H, H), as a function of M, W_hh, phi' and its
# kind before.
CARRIES: Mapping[str, Callable[[Array, Array, Array], Array]] = {
    "M_{t-1} is kept as it is: J_t is lacking": lambda M, W, slope: M,
    "only the diagonal of W_hh is used": (
        lambda M, W, slope: np.einsum("i,i,ijm->ijm", slope, np.diag(W), M)
    ),
    "J_t multiplies the index j of dW_hh[j, m], not i": (
        lambda M, W, slope: np.einsum("j,jl,ilm->ijm", slope, W, M)
    ),
    "J_t multiplies the index m of dW_hh[j, m], not i": (
        lambda M, W, slope: np.einsum("m,ml,ijl->ijm", slope, W, M)
    ),
    "W_hh multiplies i, but phi' the index j": (
        lambda M, W, slope: np.einsum("j,il,ljm->ijm", slope, W, M)
    ),
    "W_hh multiplies i, but phi' the index m": (
        lambda M, W, slope: np.einsum("m,il,ljm->ijm", slope, W, M)
    ),
    "J_t^T for J_t: its transpose": lambda M, W, slope: np.einsum("l,li,ljm->ijm", slope, W, M),
    "only i = j is kept after the step, as SnAp-1 does": (
        lambda M, W, slope: np.einsum("i,ij,il,ljm->ijm", slope, np.eye(len(W)), W, M)
    ),
    "only i = j is kept before and after the step, as SnAp-1 does": (
        lambda M, W, slope: np.einsum("i,ij,ii,ijm->ijm", slope, np.eye(len(W)), W, M)
    ),
    "only i = j is kept before the step, as SnAp-1 does": (
        lambda M, W, slope: np.einsum("i,ij,jjm->ijm", slope, W, M)
    ),
    "J_t stands twice": lambda M, W, slope: np.einsum("i,il,l,lp,pjm->ijm", slope, W, slope, W, M),
}
# What the immediate influence is made of: [i = j], a vector at m, and phi'.
PLACES: Mapping[str, Callable[[Array, Array, Array], Array]] = {
    "": lambda slope, v, W: np.einsum("i,ij,m->ijm", slope, np.eye(len(v)), v),
    "[i = j] is lacking: every i has it": lambda slope, v, W: np.einsum(
        "i,j,m->ijm", slope, np.ones_like(v), v
    ),
    "[i = j] is lacking, and phi' is that of j": lambda slope, v, W: np.einsum(
        "i,j,m->ijm", np.ones_like(v), slope, v
    ),
    "j and m are swapped": lambda slope, v, W: np.einsum("i,im,j->ijm", slope, np.eye(len(v)), v),
    "W_hh[i, j] for [i = j]": lambda slope, v, W: np.einsum("i,ij,m->ijm", slope, W, v),
    "W_hh[j, i] for [i = j]": lambda slope, v, W: np.einsum("i,ji,m->ijm", slope, W, v),
    "J_t multiplies it, as if it belonged to M_{t-1}": lambda slope, v, W: np.einsum(
        "i,ij,j,m->ijm", slope, W, slope, v
    ),
    "phi' is that of m": lambda slope, v, W: np.einsum("m,ij,m->ijm", slope, np.eye(len(v)), v),
}
VECTORS: Mapping[str, Callable[[Array, Array], Array]] = {
    "": lambda h, before: before,
    "h_t for h_{t-1}": lambda h, before: h,
    "1 for h_{t-1}": lambda h, before: np.ones_like(h),
    "a_{t-1} for h_{t-1}": lambda h, before: np.arctanh(before),
}


def _of_now(slope: Slope) -> Slope:
    return lambda h, before: slope(h, np.arctanh(h))


FACTORS: Mapping[str, Callable[[Array, Array], Array]] = {
    "": lambda h, before: 1 - h**2,
    "lacks phi'(a_t)": lambda h, before: np.ones_like(h),
    "phi'(a_{t-1}) for phi'(a_t)": lambda h, before: 1 - before**2,
    "phi'(a_t) twice": lambda h, before: (1 - h**2) ** 2,
    **{f"{s.replace('{j}', 't')} for phi'(a_t)": _of_now(f) for s, f in SLOPES.items() if s},
}
# What the gradient is made of: an influence, and how q meets it.
INFLUENCES = {
    "": lambda old, bar, new: new,
    "M_{t-1} for M_t: the gradient is taken before the update": lambda old, bar, new: old,
    "Mbar_t for M_t: what is carried is lacking": lambda old, bar, new: bar,
    "J_t M_{t-1} for M_t: the immediate part is lacking": lambda old, bar, new: new - bar,
}
PRODUCTS: Mapping[str, Callable[[Array, Array, Array], Array]] = {
    "": lambda q, slope, M: np.einsum("i,ijm->jm", q, M),
    "the gradient is transposed": lambda q, slope, M: np.einsum("i,ijm->mj", q, M),
    "q_t is not used": lambda q, slope, M: M.sum(0),
    "q_t meets the index j, not i": lambda q, slope, M: np.einsum("j,ijm->jm", q, M),
    "q_t meets the index m, not i": lambda q, slope, M: np.einsum("m,ijm->jm", q, M),
    "q_t meets j, and i is what is left": lambda q, slope, M: np.einsum("j,ijm->im", q, M),
    "q_t meets m, and i and j are what is left": lambda q, slope, M: np.einsum("m,ijm->ij", q, M),
    "phi'(a_t) q_t for q_t": lambda q, slope, M: np.einsum("i,i,ijm->jm", q, slope, M),
    "q_t meets only i = j": lambda q, slope, M: np.einsum("j,jjm->jm", q, M),
}
