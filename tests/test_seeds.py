from __future__ import annotations

import torch

from bptt_lab.core.random import generator


def draw(*key):
    return torch.rand(4, generator=generator(*key)).tolist()


def test_a_stream_depends_on_seed_purpose_and_index_alone():
    first = draw(0, "order", 3)
    torch.rand(10)
    assert draw(0, "order", 3) == first
    others = [draw(1, "order", 3), draw(0, "data", 3), draw(0, "order", 4), draw(0, "order")]
    assert all(other != first for other in others)
