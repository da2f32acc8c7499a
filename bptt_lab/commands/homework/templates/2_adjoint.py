"""Exercise 2: the adjoint sweep, which carries credit back through time.

    c_t     = q_t + W_hh^T (phi'(a_{t+1}) * c_{t+1}),  and c_T = q_T
    delta_t = phi'(a_t) * c_t
    phi'(a_t) = 1 - h_t^2,  since h_t = tanh(a_t)

q_t = dE_t/dh_t is the immediate credit: what the loss at t says about h_t, later steps ignored.
c_t = dE/dh_t is the credit: what all losses from t on say about h_t. delta_t is dE/da_t.
* multiplies entry by entry. Sizes: T steps, N sequences, H hidden units. Step t is index t - 1.
"""


def adjoint(q, h, weight_hh):
    """Sweep back over all steps.

    Args:
        q: q_1 ... q_T, (T, N, H).
        h: the states h_1 ... h_T, (T, N, H).
        weight_hh: W_hh, (H, H).

    Returns:
        credit: c_1 ... c_T, (T, N, H).
        delta: delta_1 ... delta_T, (T, N, H).
    """
    raise NotImplementedError
