"""Windows of lanes against loops over steps."""

import pytest
import torch

from bptt_lab.tasks.base import Sequences
from bptt_lab.tasks.lanes import end_to_end, to_windows


@pytest.mark.parametrize(("num_steps", "num_lanes"), [(12, 3), (14, 3), (3, 3), (7, 1)])
def test_lanes_lie_end_to_end(num_steps, num_lanes):
    lanes = end_to_end(num_steps, num_lanes).T.tolist()
    joined = [step for lane in lanes for step in lane]
    assert joined == list(range(num_steps - num_steps % num_lanes))
    assert len({len(lane) for lane in lanes}) == 1


@pytest.mark.parametrize("reset_every", [None, 1, 4, 5, 12, 13])
def test_windows_follow_one_another_in_each_lane(reset_every):
    steps = torch.arange(12)[:, None] + 100 * torch.arange(3)
    lanes = Sequences(steps[..., None].float(), steps, torch.ones(12, 3, dtype=torch.bool))
    input, target, mask = to_windows(lanes, reset_every)
    size = min(reset_every or 12, 12)
    assert mask.shape == target.shape == input.shape[:2] == (size, 3 * -(-12 // size))
    for column in range(mask.shape[1]):
        window, lane = divmod(column, 3)
        wanted = [100 * lane + t for t in range(window * size, min((window + 1) * size, 12))]
        assert target[:, column][mask[:, column]].tolist() == wanted
        assert input[..., 0][:, column][mask[:, column]].tolist() == wanted
        assert mask[: len(wanted), column].all()
