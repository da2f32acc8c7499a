"""What past-facing rules cost: float32, alternating rounds.

Three questions, each answered within one run: RTRL's backward pass and whole training step against
the matrix products alone that they consist of (the floor); its block form against the plain one;
SnAp-1's training step against full BPTT's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from bptt_lab.commands.bench.machine import describe
from bptt_lab.commands.timing import alternate
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rtrl import Rtrl
from bptt_lab.gradients.snap1 import Snap1
from bptt_lab.nn.rnn import VanillaRNN

Shape = tuple[int, int, int, int]  # L N I H
FLOOR: list[Shape] = [(50, 32, 2, 32), (20, 32, 2, 64), (200, 1, 2, 32), (100, 1, 2, 64)]
BLOCK: list[Shape] = [(128, 1, 2, 128), (128, 4, 2, 128)]
SNAP1: list[Shape] = [(256, 32, 64, 128), (100, 32, 2, 128)]


def floor(shape: Shape) -> Callable[[], None]:
    """A product (N, H + 1, H) by (N, H, H (H + I + 1)) a step and nothing else."""
    L, N, I, H = shape
    jacobian, influence = torch.randn(N, H + 1, H), torch.randn(N, H, H * (H + I + 1))
    out = torch.empty(N, H + 1, H * (H + I + 1))

    def run() -> None:
        for _ in range(L):
            torch.bmm(jacobian, influence, out=out)

    return run


def training_step(strategy: GradientStrategy, shape: Shape) -> Callable[[], None]:
    """A chunk forward, influence and all, and backward."""
    L, N, I, H = shape
    rnn, input, q_LNH = VanillaRNN(I, H), torch.randn(L, N, I), torch.randn(L, N, H)
    carry = strategy.init_carry(rnn, N)

    def run() -> None:
        output, _ = strategy.unroll(rnn, input, carry)
        output.backward(q_LNH)  # type: ignore[no-untyped-call]

    return run


def backward(strategy: GradientStrategy, shape: Shape) -> Callable[[], None]:
    """The backward pass alone."""
    L, N, I, H = shape
    rnn, input, q_LNH = VanillaRNN(I, H), torch.randn(L, N, I), torch.randn(L, N, H)
    output, _ = strategy.unroll(rnn, input, strategy.init_carry(rnn, N))

    def run() -> None:
        output.backward(q_LNH, retain_graph=True)  # type: ignore[no-untyped-call]

    return run


def minima(calls: dict[str, Callable[[], None]], rounds: int | None) -> dict[str, float]:
    """Seconds of each call, the least of all rounds."""
    for call in calls.values():
        call()
    return {name: min(seconds) for name, seconds in alternate(calls, rounds).items()}


def main() -> None:
    """Measure and print, for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, help="default: as many as fit into 3 seconds")
    options = parser.parse_args()
    print(describe("cpu", (), ("float32",)))
    for threads in options.threads:
        torch.set_num_threads(threads)
        for shape in FLOOR:
            calls = {"floor": floor(shape), "backward": backward(Rtrl(), shape)}
            calls["step"] = training_step(Rtrl(), shape)
            s = minima(calls, options.rounds)
            # A training step runs the influence twice: for the carry, and for the gradient.
            print(
                f"{threads} threads, L N I H {shape}: floor {s['floor'] * 1e3:.1f} ms, rtrl's "
                f"backward {s['backward'] / s['floor']:.2f} times that, "
                f"its step {s['step'] / s['floor'] / 2:.2f} times twice that"
            )
        for shape in BLOCK:
            calls = {"plain": training_step(Rtrl(), shape)}
            calls["block"] = training_step(Rtrl(block=shape[-1]), shape)
            s = minima(calls, options.rounds)
            print(
                f"{threads} threads, L N I H {shape}: rtrl {s['plain'] * 1e3:.0f} ms a step, with "
                f"block={shape[-1]} {s['plain'] / s['block']:.1f} times as fast"
            )
        for shape in SNAP1:
            calls = {"full": training_step(Full(), shape), "snap1": training_step(Snap1(), shape)}
            s = minima(calls, options.rounds)
            print(
                f"{threads} threads, L N I H {shape}: full {s['full'] * 1e3:.1f} ms a step, "
                f"snap1 {s['snap1'] / s['full']:.2f} times that"
            )


if __name__ == "__main__":
    main()
