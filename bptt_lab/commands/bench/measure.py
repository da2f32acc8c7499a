"""One device, precision and thread count: every contestant on every shape, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from bptt_lab.commands.bench.contestant import Prepared, UnavailableError
from bptt_lab.commands.bench.contestants import BASELINE, CONTESTANTS
from bptt_lab.commands.bench.problem import Answer, Problem, draw, error, gradient_error, solve
from bptt_lab.commands.bench.results import Row
from bptt_lab.commands.timing import alternate, clock, times_as_fast
from bptt_lab.commands.bench.workload import PASSES, PRECISIONS, Pass, Shape, flops

# Side of the square product that the machine's rate is taken from: large enough to reach it.
SIDE = {"cpu": 768, "cuda": 8192}
# In the place of a contestant, so that it takes its turn in every round.
PRODUCT = "product"
# Median over minimum of the product's times; 1.1 or less where nothing else runs.
UNSTEADY = 1.5


class Setting(NamedTuple):
    """What all shapes of one pass over them share."""

    device: str
    precision: str
    threads: int

    def __str__(self) -> str:
        if self.device == "cuda":
            return f"cuda, {self.precision}"
        return f"{self.threads} thread{'s' * (self.threads > 1)}, {self.precision}"


@contextmanager
def applied(setting: Setting) -> Iterator[None]:
    """Have torch work as the setting says, and as before afterwards."""
    threads, matmul = torch.get_num_threads(), torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.allow_tf32
    tf32 = PRECISIONS[setting.precision].tf32
    torch.set_num_threads(setting.threads)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


class Measured(NamedTuple):
    """One call of one contestant on one shape, in seconds, before the machine's rate is known."""

    shape: Shape
    contestant: str
    which: Pass
    first: float
    seconds: list[float]
    baseline: list[float] | None  # nn.RNN's, of the same rounds
    error_output: float
    error_gradient: float | None

    def row(self, setting: Setting, rate: float) -> Row:
        """The line of the table; `rate` in floating-point operations a second."""
        fastest, floor = min(self.seconds), flops(self.shape, self.which) / rate
        by_minimum, by_median = times_as_fast(self.seconds, self.baseline)
        return Row(
            *self.shape,
            self.contestant,
            *setting,
            which=self.which,
            rounds=len(self.seconds),
            first_call_ms=self.first * 1e3,
            min_ms=fastest * 1e3,
            median_ms=statistics.median(self.seconds) * 1e3,
            times_as_fast_min=by_minimum,
            times_as_fast_median=by_median,
            product_gflops=rate / 1e9,
            floor_ms=floor * 1e3,
            times_floor=fastest / floor,
            error_output=self.error_output,
            error_gradient=self.error_gradient,
        )


class _Call(NamedTuple):
    """A pass of a contestant, called once: ready for the rounds."""

    call: Callable[[], Any]
    first: float
    error_output: float
    error_gradient: float | None


def measure(
    shapes: Sequence[Shape],
    setting: Setting,
    contestants: Sequence[str],
    rounds: int | None,
    note: Callable[[str], None],
) -> list[Row]:
    """Time all contestants on all shapes, side by side, and check their answers.

    The floors of all shapes come from the best product seen on any of them.

    Args:
        shapes: the layers' sizes.
        setting: device, precision and thread count.
        contestants: names; one that is unavailable is left out, with a note.
        rounds: see `alternate`.
        note: is told what goes on.
    """
    measured: list[Measured] = []
    products: list[float] = []
    with applied(setting):
        for shape in shapes:
            note(f"{setting}: {shape}")
            measured += _measure(shape, setting, contestants, rounds, note, products)
    rate = 2 * SIDE[setting.device] ** 3 / min(products)
    return [each.row(setting, rate) for each in measured]


def _measure(
    shape: Shape,
    setting: Setting,
    contestants: Sequence[str],
    rounds: int | None,
    note: Callable[[str], None],
    products: list[float],
) -> list[Measured]:
    """One shape; the product's times are appended to `products`."""
    problem = draw(shape, PRECISIONS[setting.precision], setting.device, setting.threads)
    right = solve(problem)
    synchronise = torch.cuda.synchronize if setting.device == "cuda" else _nothing
    product = _product(problem)
    product()  # before everyone: starting torch's threads is nobody's first call
    calls: dict[tuple[Pass, str], _Call] = {}
    for name in contestants:
        try:
            prepared = CONTESTANTS[name].prepare(problem)
        except UnavailableError as why:
            note(f"{why}; left out")
            continue
        calls |= {(which, name): call for which, call in _first(prepared, right, synchronise)}
    turns: dict[tuple[str, str], Callable[[], Any]] = {(PRODUCT, ""): product}
    # A round is the forward pass of A B C, then both passes of A B C.
    for which in PASSES:
        turns |= {key: call.call for key, call in calls.items() if key[0] == which}
    seconds = alternate(turns, rounds, synchronise)
    times = seconds[PRODUCT, ""]
    products += times
    slower = statistics.median(times) / min(times)
    if slower > UNSTEADY:
        note(
            f"{setting}: {shape}: warning: a product usually took {slower:.1f} times its best; "
            "other processes disturb, repeat on an idle machine"
        )
    return [
        Measured(
            shape,
            name,
            which,
            call.first,
            seconds[which, name],
            seconds.get((which, BASELINE)),
            call.error_output,
            call.error_gradient,
        )
        for (which, name), call in calls.items()
    ]


def _first(
    prepared: Prepared, right: Answer, synchronise: Callable[[], None]
) -> Iterator[tuple[Pass, _Call]]:
    """Call each pass once, timed, and compare what it returns with the right answer."""
    kept: list[Any] = []
    seconds = clock(lambda: kept.append(prepared.both()), synchronise)
    output, gradients = kept.pop()
    found = {name: prepared.to_torch(gradient) for name, gradient in gradients.items()}
    errors = error(prepared.to_torch(output), right.output), gradient_error(found, right.gradients)
    yield "forward+backward", _Call(prepared.both, seconds, *errors)
    seconds = clock(lambda: kept.append(prepared.forward()), synchronise)
    output_error = error(prepared.to_torch(kept.pop()), right.output)
    yield "forward", _Call(prepared.forward, seconds, output_error, None)


def _product(problem: Problem) -> Callable[[], Any]:
    side = SIDE[problem.device.type]
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(side, side, generator=generator).to(problem.device, problem.dtype)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, a, out=out)


def _nothing() -> None:
    """A CPU has finished when it returns."""
