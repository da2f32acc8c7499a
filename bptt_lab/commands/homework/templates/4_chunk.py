"""Exercise 4: the gradient of the weights, truncated by chunk.

The steps are cut into chunks of k: 1 ... k, k+1 ... 2k, and so on; the last one may be shorter.
Credit is not carried from a chunk into the one before. The state was: h_{t-1} of a chunk's first
step is the last state of the chunk before, and h_0 = hx for the first chunk.

    c_t     = q_t + W_hh^T (phi'(a_{t+1}) * c_{t+1}),  and c_t = q_t at the last step of a chunk
    delta_t = phi'(a_t) * c_t,  phi'(a_t) = 1 - h_t^2
    dE/dW_ih = 1/N sum_n sum_t outer(delta_t, x_t), and so on, as in exercise 3

Seen as a sum, the term of the loss at t and the step s <= t is kept if both are in one chunk.
Sizes: T steps, N sequences, I inputs, H hidden units. Step t is index t - 1.
"""


def chunk_gradients(q, input, h, hx, weight_hh, k):
    """Sweep back over all steps, and cut the credit between chunks.

    Args:
        q: the immediate credit q_1 ... q_T of each sequence's own loss, (T, N, H).
        input: x_1 ... x_T, (T, N, I).
        h: the states h_1 ... h_T, (T, N, H).
        hx: the state that was carried in, h_0, (N, H).
        weight_hh: W_hh, (H, H).
        k: steps of a chunk, at least 1. T need not be a multiple of k.

    Returns:
        weight_ih: dE/dW_ih, (H, I).
        weight_hh: dE/dW_hh, (H, H).
        bias: dE/db, (H,).
    """
    raise NotImplementedError
