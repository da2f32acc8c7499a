"""Run folders: how they are named, and where they may be.

Three resolvers name them in the configuration's `hydra` section:

${bptt_stamp:}                       2026-11-24_07-10-33_1a2b3c4d
${bptt_name:digits,full}             digits_full
${bptt_job:3,gradient=full/seed=1}   003_gradient=full-seed=1

Everything is written below outputs/, unless the command line itself gives an absolute path.
"""

import os
import re
import time
from pathlib import Path

from omegaconf import OmegaConf

from bptt_lab.config.schema import refuse

OUTPUTS = "outputs"
_LONGEST_PATH, _LONGEST_PART = 1024, 255  # characters; the parts' is the file systems' limit
_LONGEST = 100  # characters; file systems allow 255, and people read them
_LONGEST_JOB = 180  # which tells a sweep's jobs apart


def name(*words: object, longest: int = _LONGEST) -> str:
    """Join words of the user's into a part of a path.

    They are text from the command line: whatever could leave the folder, or needs quoting in a
    shell, is replaced.
    """
    text = re.sub(r"[^A-Za-z0-9._=,-]+", "-", "_".join(map(str, words)))[:longest]
    return text if text.strip(".") else "-"  # . and .. are other folders, and nothing is none


def job_name(number: int | str, overrides: object = "") -> str:
    """Name a sweep's job by its number, unique in a sweep, and what `loader.words` says of it."""
    words = [f"{int(number):03d}", *filter(None, [str(overrides)])]
    return name(*words, longest=_LONGEST_JOB)


def register() -> None:
    """Register the resolvers, with a new stamp.

    The stamp belongs to the process, so that all jobs of a sweep share it; the cache, which Hydra
    copies from a sweep's configuration to its jobs', carries it to jobs in other processes.
    """
    # Local time, and 8 random digits: two runs started together keep apart.
    stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.urandom(4).hex()}"
    OmegaConf.register_new_resolver("bptt_stamp", lambda: stamp, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("bptt_name", name, replace=True)
    OmegaConf.register_new_resolver("bptt_job", job_name, replace=True)


def is_typed(key: str, typed: frozenset[str]) -> bool:
    """Tell whether the command line sets a dotted key, or a section around it."""
    parts = key.split(".")
    return any(".".join(parts[:end]) in typed for end in range(1, len(parts) + 1))


def check_folder(key: str, text: str, typed: frozenset[str]) -> Path:
    """Return a folder's absolute path; refuse it outside of outputs/, unless it is typed in full.

    `key` gives the folder, `typed` are the dotted keys that the command line sets.
    """
    path = Path(text)
    _check_text(key, text)
    if ".." in path.parts:
        refuse(key, text, "must not hold '..'; write the path out")
    if path.is_absolute() and is_typed(key, typed):
        return path
    # outputs/ itself may be a link to a larger disk; what is in it leads nowhere else.
    outputs, resolved = Path(OUTPUTS).resolve(), path.resolve()
    if outputs == resolved or not resolved.is_relative_to(outputs):
        inside = f"use {OUTPUTS}/{path.name}, or give an absolute path on the command line"
        refuse(key, text, f"must be in {OUTPUTS}/; {inside}")
    return path.absolute()


def check_part(key: str, text: object) -> None:
    """Refuse what is not the name of one file or folder."""
    text = str(text)
    _check_text(key, text)
    if not text.strip(".") or any(mark in text for mark in ("/", "\\", "${")):
        refuse(key, text, "must be a name, without a folder; leave it out")


def check_pattern(key: str, text: object) -> None:
    """Refuse a folder's name, interpolations as written, into which settings could write / or .."""
    text = str(text)
    _check_text(key, text)
    if ".." in text or (key.endswith("subdir") and Path(text).is_absolute()):
        refuse(key, text, "must not leave the sweep's folder; leave it out")
    rest, before = text, None
    while rest != before:  # from the innermost interpolation outwards
        before = rest
        rest = re.sub(r"\$\{(bptt_\w+:|now:|oc\.env:|hydra[.:]job\.num)[^${}]*\}", "", rest)
        rest = re.sub(r"(\$\{bptt_(?:name|job):[^${}]*)\$\{[^${}]*\}", r"\1", rest)
    if "${" in rest:
        problem = "a setting could lead out of the sweep's folder; write ${bptt_name:...} around it"
        refuse(key, text, problem)


def _check_text(key: str, text: str) -> None:
    if not text.isprintable():
        refuse(key, text, "holds a character that cannot be printed; leave it out")
    longest = max(map(len, text.encode(errors="replace").split(b"/")))
    if len(text) > _LONGEST_PATH or longest > _LONGEST_PART:
        refuse(key, text, f"is too long; give at most {_LONGEST_PART} characters")
