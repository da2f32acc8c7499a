"""Where a folder is, and what to type to see what is in it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def folder_and_board(kind: str, folder: Path) -> str:
    """Say where a folder is and how to open TensorBoard on it, from where the user is."""
    board = Path(sys.executable).with_name("tensorboard")
    command = "tensorboard" if shutil.which("tensorboard") else shown(board)
    return f"{kind:<12} {shown(folder)}\nTensorBoard  {command} --logdir {shown(folder)}"


def shown(path: Path) -> str:
    """Write a path from where the user is, if that is shorter."""
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative.startswith("..") else relative
