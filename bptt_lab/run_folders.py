"""Names of run folders: three resolvers for the configuration's `hydra` section.

${bptt_stamp:}                       2026-11-24_07-10-33_1a2b3c4d
${bptt_name:digits,full}             digits_full
${bptt_job:3,gradient=full/seed=1}   003_gradient=full-seed=1
"""

from __future__ import annotations

import os
import re
import time
from typing import Any

from omegaconf import OmegaConf

_LONGEST = 100  # characters; file systems allow 255, and people read them


def new_stamp() -> str:
    """The second, local time, and 8 random digits: two runs started together keep apart."""
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.urandom(4).hex()}"


def name(*words: Any) -> str:
    """Join words of the user's into a part of a path.

    They are text from the command line: whatever could leave the folder, or needs quoting in a
    shell, is replaced.
    """
    return re.sub(r"[^A-Za-z0-9._=,-]+", "-", "_".join(map(str, words)))[:_LONGEST]


def job_name(number: Any, overrides: Any = "") -> str:
    """Name a sweep's job by its number, which makes it unique, and its overrides."""
    text = str(overrides)
    return name(f"{int(number):03d}", text) if text else f"{int(number):03d}"


def register() -> None:
    """Register the resolvers, with a new stamp.

    The stamp belongs to the process, so that all jobs of a sweep share it; the cache, which Hydra
    copies from a sweep's configuration to its jobs', carries it to jobs in other processes.
    """
    stamp = new_stamp()
    OmegaConf.register_new_resolver("bptt_stamp", lambda: stamp, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("bptt_name", name, replace=True)
    OmegaConf.register_new_resolver("bptt_job", job_name, replace=True)
