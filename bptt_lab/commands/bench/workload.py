"""What is timed: shapes, passes, conditions, tensors, the arithmetic. Nothing imports torch."""

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from bptt_lab.commands.command import must
from bptt_lab.config import memory_limit

if TYPE_CHECKING:
    from torch import Tensor

Pass = Literal["forward", "forward+backward"]
PASSES: tuple[Pass, Pass] = get_args(Pass)
FORWARD, BOTH = PASSES


class Shape(NamedTuple):
    """One layer's sizes: steps, sequences, inputs, hidden units."""

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

Precision = Literal["float32", "tf32", "float64", "bfloat16"]  # tf32: float32 multiplied as TF32


class Conditions(NamedTuple):
    """What all shapes of one table share."""

    device: str
    precision: str
    threads: int
    isa: str  # of the C core; "none" where it does not work

    @property
    def dtype(self) -> str:
        """Torch's name of the tensors' type."""
        return "float32" if self.precision == "tf32" else self.precision

    def __str__(self) -> str:
        if self.device == "cuda":
            return f"cuda, {self.precision}"
        return f"{self.threads} thread{'s' * (self.threads > 1)}, {self.precision}"


class Problem(NamedTuple):
    """One layer's tensors for a shape, the same for every implementation."""

    shape: Shape
    conditions: Conditions
    input: "Tensor"  # (L, N, I)
    v: "Tensor"  # immediate credit dE_t/dh_t, (L, N, H)
    weights: dict[str, "Tensor"]  # by nn.RNN's names


def parse_shape(text: str) -> Shape:
    """Read the argument L,N,I,H."""
    try:
        sizes = [int(number) for number in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) != len(Shape._fields) or min(sizes) < 1:
        raise must(text, f"be four whole numbers above zero, L,N,I,H, such as {SHAPES[0]}")
    L, N, I, H = sizes
    needed, there = 4 * (L * N * (I + 2 * H) + 2 * H * (I + H)), memory_limit.installed()
    if needed > there:
        raise must(text, f"fit the memory, {there / 2**30:.3g} GiB, and needs {needed / 2**30:.3g}")
    return Shape(L, N, I, H)


def flops(shape: Shape, which: Pass) -> int:
    """Floating-point operations of a layer's products, two for a multiplication and an addition.

    Forward 2 L N H (I + H). Backward as much again for the weights, and 2 L N H^2 to carry credit
    through W_hh; 2 L N H I for the gradient of the input is not asked for: 4 L N H I + 6 L N H^2.
    """
    L, N, I, H = shape
    if which == "forward":
        return 2 * L * N * H * (I + H)
    return 4 * L * N * H * I + 6 * L * N * H * H
