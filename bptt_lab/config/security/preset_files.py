"""Configuration files of other people, bounded before they are read.

A few hundred bytes of YAML can stand for billions of items, by aliases of aliases. Hydra reads its
files without a limit; here it gets a reader that measures them first.
"""

import os

import yaml  # type: ignore[import-untyped]  # its stubs are another package
from hydra.plugins.config_source import ConfigResult

from bptt_lab.config import hydra_internals
from bptt_lab.core.validation import ConfigError

MAX_BYTES = 65536  # the reader takes about a second for so many
MAX_ITEMS = 10_000  # once every alias is written out
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class FileConfigSource(hydra_internals.FileConfigSource):
    """Hydra's own source of files, which refuses one that is too large to be a configuration."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file that `check_file` lets pass."""
        path = os.path.join(self.path, self._normalize_file_name(config_path))
        if os.path.isfile(path):
            check_file(path)
        return super().load_config(config_path)


def register() -> None:
    """Have Hydra read files through the source above."""
    hydra_internals.SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource


def check_file(path: str) -> None:
    """Refuse a file that is, or stands for, more than a configuration may hold.

    Raises:
        ConfigError: naming the file and the limit.
    """
    size = os.path.getsize(path)
    if size > MAX_BYTES:
        raise ConfigError(f"{path}: is too large, with {size} bytes; give at most {MAX_BYTES}")
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if "&" not in text:
        return
    try:
        items = _count(yaml.compose(text, Loader=_Loader), {})
    except yaml.YAMLError:
        return  # whoever reads it says so
    if items > MAX_ITEMS:
        raise ConfigError(f"{path}: its aliases stand for more than {MAX_ITEMS} items; write less")


def _count(node: yaml.Node | None, known: dict[int, float]) -> float:
    """The number of nodes below one, aliases written out; infinite where it holds itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # until it is counted: what comes back here is a circle
        pairs = isinstance(node, yaml.MappingNode)
        items = [part for pair in node.value for part in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_count(item, known) for item in items)
    return known[id(node)]
