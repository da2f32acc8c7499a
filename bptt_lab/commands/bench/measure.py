"""One device, precision and thread count: every implementation on every shape, side by side."""

import math
import statistics
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from bptt_lab.commands.bench.implementations import BASELINE, Call, Implementation
from bptt_lab.commands.bench.workload import BOTH, PASSES, Conditions, Pass, Problem, Shape, flops
from bptt_lab.commands.timing import UNSTEADY, alternate, clock, times_as_fast
from bptt_lab.core.kernels import core
from bptt_lab.core.validation import ConfigError

# Side of the square product that the machine's rate is taken from: large enough to reach it.
SIDE = {"cpu": 768, "cuda": 8192}
PRODUCT = "product"  # in the place of a pass, so that it takes its turn in every round


@contextmanager
def applied(conditions: Conditions) -> Iterator[None]:
    """Have torch and the C core work under the conditions, and as before afterwards."""
    threads, matmul = torch.get_num_threads(), torch.get_float32_matmul_precision()
    cudnn, isa = torch.backends.cudnn.allow_tf32, core.instruction_set()
    tf32 = conditions.precision == "tf32"
    try:
        torch.set_num_threads(conditions.threads)
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        if conditions.isa != "none":
            core.use_instruction_set(conditions.isa)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn
        if isa is not None:
            core.use_instruction_set(isa)


Row = Mapping[str, Any]  # a line of results.csv by column; None where something does not apply


def measure(options: Namespace, conditions: Conditions) -> list[Row]:
    """Time all implementations on all shapes, side by side, and compare their answers.

    The floors of all shapes come from the best product seen on any of them. Where an implementation
    cannot do a shape, a line on stderr says why. The number of rounds is that of `alternate`.
    """
    with applied(conditions):
        rows = [row for shape in options.shapes for row in _measure(shape, conditions, options)]
    rate = max((row["product_gflops"] for row in rows), default=math.nan)
    floors = [flops(Shape(*(row[n] for n in "LNIH")), row["pass"]) / rate / 1e6 for row in rows]
    return [
        {**row, "product_gflops": rate, "floor_ms": ms, "times_floor": row["min_ms"] / ms}
        for row, ms in zip(rows, floors, strict=True)
    ]


def note(text: str) -> None:
    """Print a line on stderr, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def _measure(shape: Shape, conditions: Conditions, options: Namespace) -> Iterator[Row]:
    note(f"{conditions}: {shape}")
    problem = draw(shape, conditions)
    right = solve(problem)
    synchronise = torch.cuda.synchronize if conditions.device == "cuda" else lambda: None
    product = _product(problem)
    product()  # before everyone: starting torch's threads is nobody's first call
    calls: dict[tuple[Pass, str], Call] = {}
    known: dict[tuple[Pass, str], dict[str, Any]] = {}
    for each in options.implementations:
        try:
            passes, claims = each.prepare(problem)
            for which, call in passes.items():
                known[which, each.name] = {"claims": claims, **_first(call, right, synchronise)}
                calls[which, each.name] = call
        except (ConfigError, NotImplementedError) as why:
            note(f"{each.name}: left out: {why}")
    turns: dict[tuple[str, str], Callable[[], Any]] = {(PRODUCT, ""): product}
    # A round is the forward pass of A B C, then both passes of A B C.
    for which in PASSES:
        turns |= {key: call for key, call in calls.items() if key[0] == which}
    seconds = alternate(turns, options.rounds, synchronise)
    best = min(seconds[PRODUCT, ""])
    slower = statistics.median(seconds[PRODUCT, ""]) / best
    if slower > UNSTEADY:
        note(
            f"{conditions}: {shape}: warning: a product usually took {slower:.1f} times its best; "
            "other processes disturb, repeat on an idle machine"
        )
    for which, name in calls:
        mine, first = seconds[which, name], known[which, name]
        by_minimum, by_median = times_as_fast(mine, seconds.get((which, BASELINE)))
        yield {
            **shape._asdict(),
            "implementation": name,
            "claims": first["claims"],
            "device": conditions.device,
            "precision": conditions.precision,
            "threads": conditions.threads,
            "instruction_set": conditions.isa,  # of the C core, which nn.RNN and JAX do without
            "pass": which,
            "rounds": len(mine),
            "first_call_ms": first["seconds"] * 1e3,
            "min_ms": min(mine) * 1e3,
            "median_ms": statistics.median(mine) * 1e3,
            "times_as_fast_min": by_minimum,
            "times_as_fast_median": by_median,
            "product_gflops": 2 * SIDE[conditions.device] ** 3 / best / 1e9,
            "floor_ms": None,  # the pass's operations at the machine's rate in a large product
            "times_floor": None,
            "error_output": first["output"],
            "error_gradient": first["gradient"],
            "peak_mb": None,
            "peak_states": None,  # the peak in units of L N H numbers
        }


def _first(
    call: Call, right: tuple[Tensor, Mapping[str, Tensor]], synchronise: Callable[[], None]
) -> dict[str, float | None]:
    """Call a pass once: its seconds, and the errors of what it returns."""
    kept: list[Any] = []
    seconds = clock(lambda: kept.append(call()), synchronise)
    output, gradients = kept.pop()
    return {
        "seconds": seconds,
        "output": None if output is None else error(output, right[0]),
        "gradient": gradient_error(gradients, right[1]) if gradients else None,
    }


def one_pass(
    shape: Shape, conditions: Conditions, implementation: Implementation
) -> Callable[[], Any]:
    """Return both passes as a call, for a process of its own."""
    return applied(conditions)(implementation.prepare(draw(shape, conditions)).passes[BOTH])


def _product(problem: Problem) -> Callable[[], Any]:
    side = SIDE[problem.conditions.device]
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(side, side, generator=generator).to(problem.input)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, a, out=out)


def draw(shape: Shape, conditions: Conditions) -> Problem:
    """Draw a problem: the same numbers under all conditions."""
    L, N, I, H = shape
    generator = torch.Generator().manual_seed(0)
    place = torch.device(conditions.device), getattr(torch, conditions.dtype)

    def randn(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator).to(*place)

    def uniform(*sizes: int) -> Tensor:
        # nn.RNN's own initialisation.
        drawn = torch.rand(sizes, generator=generator).mul_(2).sub_(1).div_(H**0.5)
        return drawn.to(*place)

    weights = {
        "weight_ih_l0": uniform(H, I),
        "weight_hh_l0": uniform(H, H),
        "bias_ih_l0": uniform(H),
        "bias_hh_l0": uniform(H),
    }
    return Problem(shape, conditions, randn(L, N, I), randn(L, N, H), weights)


def solve(problem: Problem) -> tuple[Tensor, dict[str, Tensor]]:
    """The output (L, N, H) and the gradients of the weights by name: nn.RNN's in float64.

    On the values as rounded to the precision under test: an error is the arithmetic's alone.
    """
    rnn = torch.nn.RNN(problem.shape.I, problem.shape.H, dtype=torch.float64)
    rnn.load_state_dict(problem.weights)
    output, _ = rnn(problem.input.cpu().double())
    output.backward(problem.v.cpu().double())
    gradients = {name: p.grad for name, p in rnn.named_parameters() if p.grad is not None}
    return output.detach(), gradients


def error(found: Any, right: Tensor) -> float:
    """The largest deviation over the largest right value, max |found - right| / max |right|.

    What was found may be a tensor or a JAX array.
    """
    found = from_dlpack(found).cpu().double()
    return float((found - right).abs().max() / right.abs().max())


def gradient_error(found: Mapping[str, Any], right: Mapping[str, Tensor]) -> float:
    """The largest `error` of any weight's gradient."""
    return max(error(found[name], right[name]) for name in right)
