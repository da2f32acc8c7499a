"""What every loader owes a damaged file: one line that names file, fault and way out, and soon."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bptt_lab.core.validation import ConfigError

DATA = Path(os.environ.get("BPTT_LAB_DATA", Path(__file__).parents[3] / "shared" / "data"))
HEADROOM = 2**30  # bytes that a refusal may ask for


@contextmanager
def little_memory() -> Iterator[None]:
    """Let an allocation of more than HEADROOM fail."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * os.sysconf("SC_PAGE_SIZE") + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refused(load: Callable[[], object], file: Path, complaint: str) -> None:
    """Assert that loading is refused as it should be."""
    with little_memory(), pytest.raises(ConfigError) as refusal:
        load()
    message = str(refusal.value)
    assert message.startswith(f"path={file}")
    assert complaint in message
    assert ";" in message  # the way out
    assert message.isprintable()
    assert len(message) < 500 + len(str(file))
