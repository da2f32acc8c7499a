"""What pages tell their readers to write and to type: blocks of code, files among them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs"
FENCED = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    options: str
    text: str

    @property
    def title(self) -> str:
        """The name of the file that it is; empty where it is none."""
        found = re.search(r'\btitle="([^"]+)"', self.options)
        return found[1] if found else ""


def blocks(text: str) -> list[Block]:
    """A page's fenced blocks, in order."""
    return [Block(*found) for found in FENCED.findall(text)]


def files(page: str) -> dict[str, str]:
    """The files that a page of `docs/` gives, by path."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return {block.title: block.text for block in blocks(text) if block.title}


def write(page: str, folder: Path) -> Path:
    """Write a page's files into a folder, as its reader does, and return the folder."""
    for name, text in files(page).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def install(source: Path, prefix: Path) -> str:
    """Install a package as its page says, below a prefix and without a network.

    Returns:
        What `PYTHONPATH` has to hold for it.
    """
    offline = dict.fromkeys(("PIP_NO_INDEX", "PIP_NO_DEPS", "PIP_QUIET"), "1")
    # Pip takes 0 for yes: it says whether to isolate.
    environment = {
        **os.environ,
        **offline,
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_PREFIX": str(prefix),
    }
    words = [sys.executable, "-m", "pip", "install", "-e", "."]
    subprocess.run(words, cwd=source, env=environment, check=True, stdout=subprocess.DEVNULL)
    (record,) = prefix.rglob("*.dist-info")
    return os.pathsep.join([str(record.parent), str(source)])
