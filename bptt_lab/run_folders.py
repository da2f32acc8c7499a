"""Names of run folders: two resolvers for the configuration's `hydra` section.

${bptt_stamp:}                       2026-11-24_07-10-33_1a2b3c4d
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


def job_name(number: Any, overrides: Any = "") -> str:
    """Name a sweep's job by its number, which makes it unique, and its overrides.

    Overrides are text from the command line: whatever could leave the sweep's folder, or needs
    quoting in a shell, is replaced.
    """
    text = re.sub(r"[^A-Za-z0-9._=,-]+", "-", str(overrides))
    name = f"{int(number):03d}_{text}" if text else f"{int(number):03d}"
    return name[:_LONGEST]


def register() -> None:
    """Register both resolvers, with a new stamp.

    The stamp belongs to the process, so that all jobs of a sweep share it; the cache, which Hydra
    copies from a sweep's configuration to its jobs', carries it to jobs in other processes.
    """
    stamp = new_stamp()
    OmegaConf.register_new_resolver("bptt_stamp", lambda: stamp, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("bptt_job", job_name, replace=True)
