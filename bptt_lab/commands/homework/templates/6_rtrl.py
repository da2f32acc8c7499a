"""Exercise 6: one step of real-time recurrent learning (RTRL), for W_hh.

RTRL looks forward: it carries the influence M_t = dh_t/dW_hh along, and needs no past states.

    M_t          = J_t M_{t-1} + Mbar_t,  J_t = diag(phi'(a_t)) W_hh
    Mbar_t[i, j, m] = phi'(a_t)_i h_{t-1, m} if i = j, else 0
    dE_t/dW_hh   = 1/N sum_n sum_i q_{t, i} M_t[i]
    phi'(a_t) = 1 - h_t^2

M_t[i, j, m] says how h_{t, i} changes with W_hh[j, m]. J_t multiplies its index i. Mbar_t is the
immediate influence: that of this step alone, with h_{t-1} held fixed. Each sequence has its own
M_t. The gradient comes after the update. Sizes: N sequences, H hidden units.
"""


def rtrl_step(influence, q_t, h_t, h_tm1, weight_hh):
    """Update the influence, then take the gradient of the loss at t.

    Args:
        influence: M_{t-1} of each sequence, (N, H, H, H), with the indices n, i, j, m.
        q_t: the immediate credit dE_t/dh_t of each sequence's own loss, (N, H).
        h_t: the states after the step, (N, H).
        h_tm1: the states before the step, h_{t-1}, (N, H).
        weight_hh: W_hh, (H, H).

    Returns:
        influence: M_t, (N, H, H, H).
        gradient: dE_t/dW_hh, the mean over the sequences, (H, H).
    """
    raise NotImplementedError
