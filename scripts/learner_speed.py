"""Time a step of `learner.learn_one`, by hidden size and gradient strategy, in microseconds.

    python scripts/learner_speed.py

One thread, SGD, one input and one output in float32. A figure is the least mean of nine rounds of
`STEPS` steps.
"""

import time
from functools import partial

import torch

from bptt_lab import VanillaRNN
from bptt_lab.gradients import RTRL, UORO, SnAp1
from bptt_lab.lab import Codec, Net, Network

STEPS = 200


def microseconds(hidden_size: int, strategy: object) -> float:
    """Return what a step takes."""
    parts = VanillaRNN(1, hidden_size), torch.nn.Linear(hidden_size, 1), None, Codec(1, 1, "mse")
    sgd = partial(torch.optim.SGD, lr=1e-4)
    learner = Net(Network(*parts)).learner(gradient=strategy, optimizer=sgd)
    rounds = []
    for _ in range(10):
        begin = time.perf_counter()
        for _ in range(STEPS):
            learner.learn_one(0.1, 0.2)
        rounds.append((time.perf_counter() - begin) / STEPS * 1e6)
    return min(rounds[1:])  # the first one warms up


if __name__ == "__main__":
    torch.set_num_threads(1)
    for strategy in (RTRL(), SnAp1(), UORO()):
        found = [f"H={size} {microseconds(size, strategy):8.0f} us" for size in (16, 64)]
        print(f"{strategy!r:<40}{'   '.join(found)}")
