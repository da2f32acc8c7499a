"""Exercise 5: the gradient of the weights, truncated by lag.

The loss at t sends its credit to the k steps t, t-1, ..., t-k+1, whichever of them there are, and
no further. k counts the loss's own step: with k = 1 nothing is carried back.

    delta[t, t]   = phi'(a_t) * q_t,  phi'(a_t) = 1 - h_t^2
    delta[t, s-1] = phi'(a_{s-1}) * (W_hh^T delta[t, s])
    dE/dW_ih = 1/N sum_n sum over t and s with 0 <= t - s < k of outer(delta[t, s], x_s)
    dE/dW_hh with h_{s-1} for x_s; dE/db with 1 for x_s

Sizes: T steps, N sequences, I inputs, H hidden units. Step t is index t - 1.
"""


def lag_gradients(q, input, h, hx, weight_hh, k):
    """Sum the terms of which the lag t - s is less than k.

    Args:
        q: the immediate credit q_1 ... q_T of each sequence's own loss, (T, N, H).
        input: x_1 ... x_T, (T, N, I).
        h: the states h_1 ... h_T, (T, N, H).
        hx: the state that was carried in, h_0, (N, H).
        weight_hh: W_hh, (H, H).
        k: the truncation lag, at least 1; it may be larger than T.

    Returns:
        weight_ih: dE/dW_ih, (H, I).
        weight_hh: dE/dW_hh, (H, H).
        bias: dE/db, (H,).
    """
    raise NotImplementedError
