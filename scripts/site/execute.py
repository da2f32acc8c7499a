"""Run a lesson and write its notebook.

python scripts/site/execute.py docs/lessons/1_by_hand.py build/lessons/1_by_hand.ipynb
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

# Nobody else on the machine can read what the kernel is told; without it the kernel warns.
PRIVATE = Config({"KernelManager": {"transport_encryption": "auto"}})


def execute(source: Path) -> nbformat.NotebookNode:
    """Return a lesson as a notebook with what its cells printed and drew.

    It runs in a temporary folder.

    Raises:
        CellExecutionError: where a cell fails.
    """
    notebook = jupytext.read(source)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=600, coalesce_streams=True, resources=resources, config=PRIVATE
        )
        client.execute()
    return notebook


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(execute(source), target)
