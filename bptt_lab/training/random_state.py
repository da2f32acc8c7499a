"""The global random generators of a process, taken down and put back."""

import random
from typing import Any

import numpy as np
import torch

State = dict[str, Any]  # plain containers and tensors, as checkpoints hold


def random_state() -> State:
    """Return the state of torch's (CPU and CUDA), NumPy's and Python's global generators.

    Dropout draws from them, and whatever a plug-in draws without asking.
    """
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }


def restore_random(saved: State) -> None:
    """Put the generators where they were."""
    torch.set_rng_state(saved["torch"])
    if saved["cuda"]:
        torch.cuda.set_rng_state_all(saved["cuda"])
    kind, keys, *rest = saved["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, numbers, gauss = saved["python"]
    random.setstate((version, tuple(numbers), gauss))
