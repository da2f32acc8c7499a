"""The C core on another instruction set, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bptt_lab.core.kernels import core
from bptt_lab.core.validation import ConfigError


@contextmanager
def running_on(name: str) -> Iterator[None]:
    """Skip the test where the processor has no such instructions."""
    before = core.instruction_set()
    try:
        core.use_instruction_set(name)
    except ConfigError:
        pytest.skip(f"this machine has no {name}")
    yield
    assert before is not None
    core.use_instruction_set(before)
