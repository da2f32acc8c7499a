"""Exercise 3: the gradients of the weights from delta.

    dE/dW_ih = 1/N sum_n sum_t outer(delta_t, x_t)
    dE/dW_hh = 1/N sum_n sum_t outer(delta_t, h_{t-1})
    dE/db    = 1/N sum_n sum_t delta_t

The loss is the sum over the steps and the mean over the N sequences; delta is that of each
sequence's own loss, not yet divided by N. outer(u, v) is the matrix of all u_i v_j.
Sizes: T steps, N sequences, I inputs, H hidden units. Step t is index t - 1.
"""


def weight_gradients(delta, input, h, hx):
    """Sum over steps, and take the mean over sequences.

    Args:
        delta: delta_1 ... delta_T, (T, N, H).
        input: x_1 ... x_T, (T, N, I).
        h: the states h_1 ... h_T, (T, N, H).
        hx: the state that was carried in, h_0, (N, H).

    Returns:
        weight_ih: dE/dW_ih, (H, I).
        weight_hh: dE/dW_hh, (H, H).
        bias: dE/db, (H,).
    """
    raise NotImplementedError
