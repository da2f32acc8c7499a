"""What the commands ask of gradient strategies: the values they allow, and their claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args, get_origin

from bptt_lab.config import signatures
from bptt_lab.config.schema import Component

if TYPE_CHECKING:
    from bptt_lab.gradients.base import GradientStrategy


def choices(component: Component, key: str) -> tuple[str, ...]:
    """Return the values that a component's class allows for a setting by Literal, or none."""
    setting = signatures.read(component.target).settings.get(key)
    return get_args(setting.hint) if setting and get_origin(setting.hint) is Literal else ()


def claims(strategy: GradientStrategy) -> str:
    """Return what a strategy says of its gradient within a chunk: exact, unbiased or biased."""
    if strategy.exact_within_chunk:
        return "exact"
    return "unbiased" if strategy.unbiased else "biased"
