"""Lanes: parallel streams, learnt from side by side, whose state begins anew every so many steps.

Where it does, a lane is cut. Its windows are sequences, in batches of one window of all lanes.
"""

import torch
from torch import Tensor

from bptt_lab.tasks.base import Sequences


def end_to_end(num_steps: int, num_lanes: int) -> Tensor:
    """Return which steps of a series each lane has, (T, N): one lane after another.

    What is left of `num_steps` where N does not divide it, at most N - 1 steps, is in no lane.
    """
    length = num_steps // num_lanes
    return torch.arange(length)[:, None] + length * torch.arange(num_lanes)


def to_windows(lanes: Sequences, reset_every: int | None) -> Sequences:
    """Cut N lanes of T steps into windows of R steps, all lanes' first ones, then the second ones.

    Args:
        lanes: (T, N, ...).
        reset_every: R; None, as a number above T, is for all T steps.

    Returns:
        (R, W * N, ...). The last windows end in steps that do not count where R does not divide T.
    """
    num_steps = len(lanes.mask)
    size = min(reset_every or num_steps, num_steps)
    missing = -num_steps % size

    def cut(stream: Tensor) -> Tensor:
        rest = stream.new_zeros(missing, *stream.shape[1:])
        windows = torch.cat((stream, rest)).view(-1, size, *stream.shape[1:])  # (W, R, N, ...)
        return windows.transpose(0, 1).flatten(1, 2)

    return Sequences(*map(cut, lanes))
