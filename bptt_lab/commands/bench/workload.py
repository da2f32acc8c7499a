"""What is timed, as numbers: shapes, passes, the arithmetic that each of them needs.

A shape is L steps, N sequences, I inputs and H hidden units of one layer. The input needs no
gradient, as in training. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from bptt_lab.commands.command import must

Pass = Literal["forward", "forward+backward"]
PASSES: tuple[Pass, ...] = get_args(Pass)


class Shape(NamedTuple):
    """One layer's sizes."""

    L: int
    N: int
    I: int
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


# Short, narrow, wide, long, one sequence at a time, nearly no arithmetic a step.
SHAPES = (
    Shape(64, 32, 28, 64),
    Shape(100, 32, 2, 128),
    Shape(256, 32, 64, 128),
    Shape(256, 32, 64, 256),
    Shape(784, 64, 1, 128),
    Shape(256, 64, 512, 512),
    Shape(1000, 1, 10, 128),
    Shape(512, 16, 16, 32),
)


# Where RTRL, whose cost is H^2 times full BPTT's, still takes milliseconds.
SMALL_SHAPES = (
    Shape(50, 32, 2, 32),
    Shape(20, 32, 2, 64),
    Shape(200, 1, 2, 32),
    Shape(100, 1, 2, 64),
    Shape(128, 1, 2, 128),
)


class Precision(NamedTuple):
    """A number format of the tensors, and whether a GPU may multiply float32 as TF32."""

    dtype: str  # torch's name
    tf32: bool = False
    itemsize: int = 4


PRECISIONS = {
    "float32": Precision("float32"),
    "tf32": Precision("float32", tf32=True),
    "float64": Precision("float64", itemsize=8),
    "bfloat16": Precision("bfloat16", itemsize=2),
}


def parse_shape(text: str) -> Shape:
    """Read the argument L,N,I,H."""
    try:
        sizes = [int(number) for number in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) != len(Shape._fields) or min(sizes) < 1:
        raise must(text, f"be four whole numbers above zero, L,N,I,H, such as {SHAPES[0]}")
    return Shape(*sizes)


def flops(shape: Shape, which: Pass) -> int:
    """Floating-point operations of a layer's products, two for a multiplication and an addition.

    Forward 2 L N H (I + H). Backward as much again for the weights, and 2 L N H^2 to carry credit
    through W_hh; 2 L N H I for the gradient of the input is not asked for: 4 L N H I + 6 L N H^2.
    """
    L, N, I, H = shape
    if which == "forward":
        return 2 * L * N * H * (I + H)
    return 4 * L * N * H * I + 6 * L * N * H * H
