"""Runs: what lies on the disk, and how a run ended. Nothing here imports torch."""

from bptt_lab.runs.folder import *  # noqa: F403  # folder.py's __all__ is the list
