"""Truncations that keep the same terms of a batch's gradient, and so are one and the same.

A mask counts at the steps that have a loss. Where only the last has one, lag, window and tail are
alike at every k, and chunks of several lengths begin at the same step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from bptt_lab.commands.compare.request import Option
from bptt_lab.training.build import make

LARGEST_MASK = 2**26  # numbers


class Alike(NamedTuple):
    """Which of the modes and which of a mode's k are alike."""

    modes: Sequence[Sequence[str]]  # all modes, in groups that agree at every k
    ks: Sequence[tuple[str, Sequence[int], float]]  # a mode, two or more of its k, steps they reach
    losses: str  # where they are


def alike(options: Sequence[Option], losses: Tensor) -> Alike:
    """Compare the masks of truncations, all modes at the same k, where there are losses (L,)."""
    masks: dict[str, dict[int, bytes]] = {}
    for option in options:
        mask = make("gradient", option.component).mask(len(losses))[losses]
        assert option.k is not None
        masks.setdefault(option.mode, {})[option.k] = mask.numpy().tobytes()
    modes: dict[tuple[bytes, ...], list[str]] = {}
    ks: list[tuple[str, list[int], float]] = []
    for mode, by_k in masks.items():
        modes.setdefault(tuple(by_k.values()), []).append(mode)
        groups: dict[bytes, list[int]] = {}
        for k, mask in by_k.items():
            groups.setdefault(mask, []).append(k)
        for mask, group in groups.items():
            if len(group) > 1:
                ks.append((mode, group, sum(mask) / max(int(losses.sum()), 1)))
    return Alike(list(modes.values()), ks, _where(losses))


def sentences(found: Alike) -> list[str]:
    """Say what is alike, and why; nothing where nothing is."""
    said = [
        f"truncated {mode} at k = {', '.join(map(str, ks))} ({reached:g} steps reached)"
        for mode, ks, reached in found.ks
    ]
    said += [f"truncated {', '.join(group)} at each k" for group in found.modes if len(group) > 1]
    return [f"one and the same gradient: {each}; {found.losses}" for each in said]


def _where(losses: Tensor) -> str:
    steps = (losses.nonzero().flatten() + 1).tolist()
    if steps == [len(losses)]:
        return f"only step {len(losses)}, the last, has a loss"
    between = f", {steps[0]} to {steps[-1]}" if steps else ""
    return f"{len(steps)} of {len(losses)} steps have a loss{between}"
