"""Exercise 1: the forward step and the forward pass.

    h_t = tanh(W_ih x_t + W_hh h_{t-1} + b)

Sizes: T steps, N sequences, I inputs, H hidden units. Step t is index t - 1 of a tensor.
"""


def step(x_t, h_tm1, weight_ih, weight_hh, bias):
    """Compute one step for all sequences.

    Args:
        x_t: the inputs x_t, (N, I).
        h_tm1: the states before the step, h_{t-1}, (N, H).
        weight_ih: W_ih, (H, I).
        weight_hh: W_hh, (H, H).
        bias: b, (H,).

    Returns:
        h_t, (N, H).
    """
    raise NotImplementedError


def forward(input, hx, weight_ih, weight_hh, bias):
    """Compute all steps. A long sequence comes in pieces, so it does not always begin at zero.

    Args:
        input: x_1 ... x_T, (T, N, I).
        hx: the state that is carried in, h_0, (N, H).
        weight_ih: W_ih, (H, I).
        weight_hh: W_hh, (H, H).
        bias: b, (H,).

    Returns:
        output: h_1 ... h_T, (T, N, H).
        h_n: the state to carry on from, (N, H).
    """
    raise NotImplementedError
