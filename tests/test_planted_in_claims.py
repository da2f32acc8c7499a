"""bptt-reproduce's claims: each sees two planted defects or more, and sound code passes it.

A defect is planted into the package, and the claim must fail. The quick ones are planted
with one seed; the slow suite plants all of them with all the claim's seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from bptt_lab.commands.reproduce import topics
from bptt_lab.commands.reproduce.claims import task_floors
from bptt_lab.commands.reproduce.topics import Trial
from bptt_lab.diagnostics import flow, jacobians, linearise, lyapunov
from bptt_lab.gradients import credit_clip, kf_rtrl, truncated, uoro
from bptt_lab.gradients.artbp import ARTBP
from bptt_lab.gradients.credit_clip import CreditClip
from bptt_lab.gradients.diagonal import Diagonal
from bptt_lab.gradients.feedback_alignment import FeedbackAlignment
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.future import PerUnroll
from bptt_lab.gradients.past import PastFacing
from bptt_lab.gradients.random_factors import RandomFactors
from bptt_lab.gradients.rflo import RFLO
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.snap1 import SnAp1
from bptt_lab.gradients.stack import Stack
from bptt_lab.gradients.truncated import Truncated

Plant = Callable[[pytest.MonkeyPatch], None]
CLAIMS = {claim.name: claim for claim in topics.entries()}
QUICK = [name for name, claim in CLAIMS.items() if not claim.slow]


def wrapped(owner: Any, name: str, change: Callable[..., Any]) -> Plant:
    """Replace a function by `change(real, *arguments)`."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kw: change(real, *args, **kw))

    return plant


def cell(stack: Any, **changes: Any) -> Any:
    return stack._replace(cell=stack.cell._replace(**changes))


def scaled(factor: float) -> Callable[..., Any]:
    def change(real: Any, *arguments: Any) -> Any:
        found = real(*arguments)
        if isinstance(found, torch.Tensor):
            return factor * found
        return [type(s)(*(None if g is None else g * factor for g in s)) for s in found]

    return change


def leak_ignored(strategy: type) -> Plant:
    return wrapped(strategy, "assign", lambda real, me, stack: real(me, cell(stack, leak=1.0)))


def slope_ignored(strategy: type) -> Plant:
    change = lambda real, me, stack: real(me, cell(stack, phi="identity"))  # noqa: E731
    return wrapped(strategy, "assign", change)


def slopes_ignored(module: Any) -> Plant:
    change = lambda real, states, of: real(states, of._replace(phi="identity"))  # noqa: E731
    return wrapped(module, "slopes", change)


def with_chunk(strategy: type, **changes: Any) -> Plant:
    """A past-facing rule that sees another chunk."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("advance", "gradient"):
            change = lambda real, me, chunk, *rest: real(me, cell(chunk, **changes), *rest)  # noqa: E731
            wrapped(strategy, name, change)(monkeypatch)

    return plant


def another_k(by: int) -> Plant:
    def assign(real: Any, me: Truncated, stack: Stack) -> Any:
        k1 = me.k1 if me.mode == "window" else None
        return real(Truncated(k=me.k + by, mode=me.mode, k1=k1), stack)

    return wrapped(Truncated, "assign", assign)


def another_mask(real: Any, me: Truncated, num_steps: int) -> Any:
    return real(Truncated(k=me.k + 1, mode=me.mode, k1=me.k1), num_steps)


def unbalanced(module: Any) -> Plant:
    ones = lambda real, a, b: (torch.ones_like(a * b), torch.ones_like(a * b))  # noqa: E731
    return wrapped(module, "balance", ones)


forgets = wrapped(
    PastFacing,
    "states",
    lambda real, me, rnn, x, carry, *rest: real(me, rnn, x, carry._replace(influence=None), *rest),
)
layer_below_gets_nothing = wrapped(Stack, "immediate", lambda real, me, i, above: real(me, i, None))
nothing_from_above = wrapped(truncated, "from_above", scaled(0.0))
detached = wrapped(
    Full, "assign", lambda real, me, stack: stack.sweep([0.0] * len(stack.layers[0].input))
)
carries_no_state = wrapped(
    PerUnroll,
    "states",
    lambda real, me, rnn, x, carry, *rest: real(me, rnn, x, carry._replace(hx=0 * carry.hx), *rest),
)
unweighted = wrapped(ARTBP, "keep", lambda real, me, cuts: [float(f > 0) for f in real(me, cuts)])
no_signs = wrapped(RandomFactors, "signs", lambda real, *arguments: real(*arguments).abs())
jacobian_without_leak = wrapped(
    jacobians, "linearise", lambda real, *arguments: cell(real(*arguments), leak=1.0)
)
wrong_slope = slopes_ignored(linearise)


def task(name: str, change: Callable[..., Any]) -> Plant:
    return wrapped(task_floors, name, lambda real, *arguments: change(*real(*arguments)))


def off_diagonal(real: Any, me: SnAp1, chunk: Any) -> Any:
    return real(me, chunk) + 0.1 * chunk.slope * chunk.weights.hh.sum(1)


def clips_the_batch(real: Any, tensor: Any, **settings: Any) -> Any:
    return real(tensor).expand(len(tensor), 1)


def first_layer_only(real: Any, me: Any, index: int, weight_hh: Any) -> Any:
    return real(me, 0, weight_hh)


DEFECTS: dict[str, dict[str, Plant]] = {
    "adaptive_truncation.bias_bound": {"a lag more": another_k(1), "leak": leak_ignored(Truncated)},
    **{
        f"echo_chunks.chunk_{k}": {"detached": detached, "no state": carries_no_state}
        for k in (5, 10, 15)
    },
    **{
        f"estimators.{name}": {
            "UORO unbalanced": unbalanced(uoro),
            "KF-RTRL half": wrapped(kf_rtrl.KFRTRL, "gradient", scaled(0.5)),
            "UORO half": wrapped(uoro.UORO, "gradient", scaled(0.5)),
        }
        for name in ("variance_kf_rtrl_below_uoro", "ratio_grows_with_units")
    },
    "estimators.unbiased": {
        "signs": no_signs,
        "UORO's leak": with_chunk(uoro.UORO, leak=1.0),
        "KF-RTRL tenth": wrapped(kf_rtrl.KFRTRL, "gradient", scaled(0.9)),
        "influence": forgets,
    },
    **{
        f"influence_balancing.{mode}": {
            "k + 1": another_k(1),
            "k - 1": another_k(-1),
            "leak": leak_ignored(Truncated),
        }
        for mode in ("lag", "window", "chunk")
    },
    "influence_balancing.rtrl_learns": {"influence": forgets, "leak": with_chunk(RTRL, leak=1.0)},
    "influence_balancing.uoro_learns": {
        "influence": forgets,
        "half": wrapped(uoro.UORO, "gradient", scaled(0.5)),
    },
    "influence_balancing.artbp_learns": {
        "weights": unweighted,
        "half": wrapped(
            ARTBP, "keep", lambda real, *arguments: [0.5 * f for f in real(*arguments)]
        ),
    },
    "influence_balancing.truncated_diverges": {
        "k + 1": another_k(1),
        "leak": leak_ignored(Truncated),
    },
    "local_rules.snap1": {
        "off the diagonal": wrapped(SnAp1, "decay", off_diagonal),
        "leak": with_chunk(SnAp1, leak=1.0),
        "influence": forgets,
    },
    "local_rules.rflo": {
        "no decay": wrapped(RFLO, "decay", scaled(0.0)),
        "half the credit": wrapped(RFLO, "fed_back", scaled(0.5)),
        "influence": forgets,
    },
    "local_rules.feedback_alignment": {
        "the transpose": wrapped(FeedbackAlignment, "feedback", lambda real, me, i, w: w),
        "layer below": layer_below_gets_nothing,
        "leak": leak_ignored(Full),
    },
    "local_rules.credit_clip": {
        "leak": wrapped(
            credit_clip, "_sweep", lambda real, stack, *rest: real(cell(stack, leak=1.0), *rest)
        ),
        "half the clip": wrapped(
            credit_clip, "_sweep", lambda real, *arguments: real(*arguments[:-1], arguments[-1] / 2)
        ),
        "slopes": slopes_ignored(credit_clip),
    },
    "task_floors.adding": {
        "a number twice": task("adding", lambda x, y: (x, 2 * x[..., 0].mul(x[..., 1]).amax(0))),
        "other numbers": task("adding", lambda x, y: (x, y.roll(1))),
    },
    "task_floors.copy": {
        "a step late": task("copy_memory", lambda x, y: (x, y.roll(1, 0))),
        "seven symbols": task("copy_memory", lambda x, y: (x.where(x != 7, 6), y.where(y != 7, 6))),
    },
    "task_floors.temporal_order": {
        "order lost": task("temporal_order", lambda x, y: (x, y // 2 + 2 * (y % 2))),
        "X more often": task("temporal_order", lambda x, y: (x, y.where(y != 3, 0))),
    },
    "task_floors.echo": {
        "a step late": task("echo", lambda x, y: (x, y.roll(1, 0))),
        "noise": task("echo", lambda x, y: (x, y.where(torch.rand(y.shape) > 0.05, 1 - y))),
    },
    "truncation.lag_weights": {
        "k + 1": another_k(1),
        "the mask alone": wrapped(Truncated, "mask", another_mask),
        "leak": leak_ignored(Truncated),
        "layer below": nothing_from_above,
    },
    "vanishing.bound": {"slopes": wrong_slope, "leak": jacobian_without_leak},
    "vanishing.orthogonal": {
        "a sweep that fades": wrapped(
            Full,
            "assign",
            lambda real, me, stack: stack.sweep([0.999] * len(stack.layers[0].input)),
        ),
        "a flow that fades": wrapped(
            flow,
            "_handed",
            lambda real, *a, **k: real(*a, **k)._replace(log10=real(*a, **k).log10 - 1e-6),
        ),
    },
    "vanishing.slope_is_lyapunov": {
        "slopes": slope_ignored(Full),
        "leak": leak_ignored(Full),
        "slopes of the exponent": wrapped(
            lyapunov,
            "linearise",
            lambda real, *a: real(*a)._replace(
                slopes=[torch.ones_like(s) for s in real(*a).slopes]
            ),
        ),
    },
    "vanishing.latch": {"slopes": slope_ignored(Full), "leak": leak_ignored(Full)},
}
SECONDS = ("echo", "estimators.ratio", "estimators.variance", "influence_balancing.rtrl")
SECONDS += ("influence_balancing.truncated", "influence_balancing.uoro", "vanishing.slope")

OTHERWISE = (*SECONDS, "task_floors")  # those without a gradient, too
GRADIENTS = [
    (Stack, "sweep"),
    (Truncated, "assign"),
    (CreditClip, "modify"),
    *((rule, "gradient") for rule in (RTRL, uoro.UORO, kf_rtrl.KFRTRL, Diagonal)),
]


def planted() -> Iterator[Any]:
    for name, defects in DEFECTS.items():
        for number, (defect, plant) in enumerate(defects.items()):
            marks = [pytest.mark.slow] if name.startswith(SECONDS) or number else []
            yield pytest.param(name, plant, id=f"{name}: {defect}", marks=marks)


def found(name: str, seeds: Any) -> bool:
    """Whether the claim holds; a defect must not be seen by an error of its own."""
    return CLAIMS[name].measure(Trial(seeds)).passed


def test_each_claim_has_two_defects() -> None:
    assert set(DEFECTS) == set(QUICK)
    assert all(len(defects) >= 2 for defects in DEFECTS.values())


@pytest.mark.parametrize(("name", "plant"), list(planted()))
def test_a_claim_sees_a_defect(name: str, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert not found(name, CLAIMS[name].tested_on[:1])


@pytest.mark.parametrize("name", [name for name in QUICK if not name.startswith(OTHERWISE)])
def test_a_gradient_of_nan_passes_no_claim(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, method in GRADIENTS:
        wrapped(owner, method, scaled(math.nan))(monkeypatch)
    assert not found(name, CLAIMS[name].tested_on[:1])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", QUICK)
def test_sound_code_passes_over_eight_seeds(name: str) -> None:
    seeds = range(20, 28) if CLAIMS[name].tested_on else ()
    assert all(found(name, [seed]) for seed in seeds) if seeds else found(name, ())
