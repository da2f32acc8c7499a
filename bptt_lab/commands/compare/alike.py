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
    """All modes, in groups that agree at every k, and what is alike in words."""

    modes: Sequence[Sequence[str]] = ()
    sentences: Sequence[str] = ()


def alike(options: Sequence[Option], losses: Tensor) -> Alike:
    """Compare the masks of truncations, all modes at the same k, where there are losses (L,)."""
    masks: dict[str, dict[int, bytes]] = {}
    for option in options:
        mask = make("gradient", option.component).mask(len(losses))[losses]
        assert option.k is not None
        masks.setdefault(option.mode, {})[option.k] = mask.numpy().tobytes()
    modes: dict[tuple[bytes, ...], list[str]] = {}
    said = []
    for mode, by_k in masks.items():
        modes.setdefault(tuple(by_k.values()), []).append(mode)
        groups: dict[bytes, list[str]] = {}
        for k, mask in by_k.items():
            groups.setdefault(mask, []).append(str(k))
        for mask, ks in groups.items():
            if len(ks) > 1:
                reached = sum(mask) / max(int(losses.sum()), 1)
                said.append(f"{mode} at k = {', '.join(ks)} ({reached:g} steps reached)")
    said += [f"{', '.join(group)} at each k" for group in modes.values() if len(group) > 1]
    steps = (losses.nonzero().flatten() + 1).tolist()
    ends = " to ".join(map(str, dict.fromkeys((*steps[:1], *steps[-1:]))))
    where = f"{len(steps)} of {len(losses)} steps have a loss ({ends})"
    sentences = [f"one and the same gradient: truncated {each}; {where}" for each in said]
    return Alike([*modes.values()], sentences)
