"""Random streams as functions of (seed, purpose, index), never of what was drawn before.

So the order of jobs, a resumed run or a second process changes no draw.
"""

import hashlib

import torch


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """Return a CPU generator for one purpose, such as ("order", epoch) or ("data", split).

    Args:
        seed: the experiment's or the dataset's seed.
        purpose: what the numbers are for; different purposes are independent.
        index: epoch, step or draw.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
