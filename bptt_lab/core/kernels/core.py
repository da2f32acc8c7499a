"""The C core of the recurrence, as functions of tensors: float32 and float64 on a CPU.

The library is plain C, compiled when the package is installed if there is a compiler, and loaded
here by ctypes; `available` says whether it is there. It packs W_hh once a call, splits the batch
over torch.get_num_threads() threads for the whole sequence, and keeps delta for a few steps at a
time only. Equations are those of bptt_lab.core.cell.
"""

import ctypes
import sys
from collections.abc import Callable, Sequence, Set
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_long, c_void_p
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bptt_lab.core.cell import Cell, Layer, Swept, Weights
from bptt_lab.core.validation import ConfigError

_DTYPES = {torch.float32: "f32", torch.float64: "f64"}
PHI = {"tanh": 0, "relu": 1, "identity": 2, "sigmoid": 3}
# The last fields of either struct.
_COMMON: list[tuple[str, Any]] = [
    *((name, c_long) for name in "LNIH"),
    ("phi", c_int),
    ("threads", c_int),
    ("leak", c_double),
]


class _UnrollArgs(Structure):
    """bptt_unroll_args of src/bptt_core.h."""

    _fields_ = [
        *((name, c_void_p) for name in ["states", "values", "input", "w_ih"]),
        *((name, c_void_p) for name in ["bias_ih", "bias_hh", "w_hh"]),
        *_COMMON,
        ("steady", c_int),
    ]


class _SweepArgs(Structure):
    """bptt_sweep_args of src/bptt_core.h."""

    _fields_ = [
        ("q", c_void_p),
        ("q_stride_t", c_long),
        ("q_stride_n", c_long),
        *((name, c_void_p) for name in ["q_last", "states", "values", "w_hh", "keep"]),
        *((name, c_void_p) for name in ["delta", "credit", "grad_hx", "input", "w_ih"]),
        *((name, c_void_p) for name in ["grad_input", "grad_w_ih", "grad_w_hh", "grad_bias"]),
        *_COMMON,
    ]


# Multiply-adds for which another thread is woken: tens of microseconds, as waking takes.
WORTH_A_THREAD = 1 << 20


@cache
def _library() -> ctypes.CDLL | None:
    for path in sorted(Path(__file__).parent.glob("_core*.so")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue  # built for another machine
        for dtype in ("f32", "f64"):
            getattr(library, f"bptt_unroll_{dtype}").argtypes = [POINTER(_UnrollArgs)]
            getattr(library, f"bptt_sweep_{dtype}").argtypes = [POINTER(_SweepArgs)]
            for name in ("unroll", "sweep"):
                many = getattr(library, f"bptt_{name}_many_{dtype}")
                many.argtypes = [*[c_void_p] * 3, c_int, c_int]
        library.bptt_isa.restype = c_char_p
        library.bptt_use_isa.argtypes = [c_char_p]
        library.bptt_use_gomp.argtypes, library.bptt_use_gomp.restype = [c_void_p], None
        library.bptt_use_gomp(_gomp_parallel())
        return library
    return None


def _gomp_parallel() -> int | None:
    """The address of GOMP_parallel in the OpenMP runtime that torch has loaded."""
    if not sys.platform.startswith("linux"):
        return None
    with open("/proc/self/maps") as maps:
        paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "omp" in line}
    # torch's own first: a process may hold several.
    for path in sorted(paths, key=lambda path: ("torch" not in path, path)):
        if "gomp" not in Path(path).name:
            continue
        try:
            function = ctypes.CDLL(path).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, c_void_p).value
    return None


def available() -> bool:
    """Whether the library was built and loads here."""
    return _library() is not None


def instruction_set() -> str | None:
    """What the core runs on: "avx512", "avx2" or "generic"; None without the library."""
    library = _library()
    return None if library is None else str(library.bptt_isa(), "ascii")


def use_instruction_set(name: str) -> None:
    """Have the core run on another instruction set, one that `instruction_set` may return.

    Raises:
        ConfigError: where the core was not built, or the processor lacks it.
    """
    library = _library()
    if library is None or library.bptt_use_isa(name.encode()):
        here = f"it runs on {instruction_set()}" if library else "it was not built"
        raise ConfigError(f"isa={name}: the C core cannot use it here ({here}); leave it out")


def supports(*tensors: Tensor | None) -> bool:
    """Whether the core is there and can work on these: on the CPU, of one type, not empty."""
    first = tensors[0]
    if first is None or first.dtype not in _DTYPES or first.numel() == 0:
        return False
    for tensor in tensors:
        if tensor is not None and not (tensor.dtype is first.dtype and tensor.is_cpu):
            return False
    return available()


@cache
def _function(name: str, dtype: torch.dtype) -> Callable[..., int]:
    return getattr(_library(), f"bptt_{name}_{_DTYPES[dtype]}")  # type: ignore[no-any-return]


def _call(name: str, dtype: torch.dtype, *args: Any) -> None:
    if _function(name, dtype)(*args):
        raise MemoryError("the C core found no memory for its workspace")


def _common(input_LNI: Tensor, hidden_size: int, cell: Cell) -> tuple[float, ...]:
    return *input_LNI.shape, hidden_size, PHI[cell.phi], torch.get_num_threads(), cell.leak


def unroll(
    input_LNI: Tensor,
    hx_NH: Tensor,
    weights: Weights,
    cell: Cell,
    values: Tensor | None = None,
    *,
    steady: bool = False,
) -> Tensor:
    """Run one layer over time; see bptt_lab.core.recurrence."""
    num_steps, batch_size, _ = input_LNI.shape
    hidden_size = weights.hh.shape[0]
    _check_shapes(input_LNI, hx_NH, weights)
    states = input_LNI.new_empty(num_steps + 1, batch_size, hidden_size)
    hx_NH = hx_NH.contiguous()
    ctypes.memmove(states.data_ptr(), hx_NH.data_ptr(), hx_NH.nbytes)
    # Local names keep contiguous copies alive until the call is over.
    input_LNI = input_LNI.contiguous()
    ih, hh, *biases = [None if w is None else w.contiguous() for w in weights]
    args = _UnrollArgs(
        *_pointers(states, values, input_LNI, ih, *biases, hh),
        *_common(input_LNI, hidden_size, cell),
        steady,
    )
    _call("unroll", states.dtype, byref(args))
    return states


def sweep(
    q_LNH: Tensor | None,
    layer: Layer,
    cell: Cell,
    want: Set[str],
    *,
    q_last_NH: Tensor | None = None,
    keep: Sequence[float] | None = None,
) -> Swept:
    """Sweep one layer back over time; see bptt_lab.core.recurrence."""
    num_steps, batch_size, hidden_size = layer.values.shape
    q_LNH = None if q_LNH is None else rows(q_LNH)
    strides = (0, 0) if q_LNH is None else q_LNH.stride()[:2]
    # Local names keep contiguous copies alive until the call is over.
    input_LNI, states, values = (tensor.contiguous() for tensor in layer[:3])
    ih, hh = layer.weights.ih.contiguous(), layer.weights.hh.contiguous()
    q_last_NH = None if q_last_NH is None else q_last_NH.contiguous()
    factors = None if keep is None else (c_double * num_steps)(*keep)

    steps = (num_steps, batch_size, hidden_size)
    # As Swept has them.
    shapes = (steps, steps, steps[1:], input_LNI.shape, ih.shape, hh.shape, steps[2:])
    named = zip(Swept._fields, shapes, strict=True)
    swept = Swept(*[states.new_empty(*shape) if name in want else None for name, shape in named])
    pointers = _pointers(
        q_LNH, q_last_NH, states, values, hh, *swept[:3], input_LNI, ih, *swept[3:]
    )
    args = _SweepArgs(
        pointers[0],
        *strides,
        *pointers[1:5],
        None if factors is None else ctypes.addressof(factors),
        *pointers[5:],
        *_common(input_LNI, hidden_size, cell),
    )
    _call("sweep", states.dtype, byref(args))
    return swept


def many(
    layers: Layer,
    phi: str,
    leaks: Sequence[float],
    into: Swept | None = None,
    q: Tensor | None = None,
    q_last: Tensor | None = None,
    keep: Tensor | None = None,
) -> Callable[[], None]:
    """Prepare R calls of `unroll` as one, or of `sweep` `into` tensors; see bptt_lab.core.many."""
    input, states, values, (ih, hh, *biases), _ = layers
    (count, L, N, I), H = input.shape, states.shape[3]
    # As the structs have them.
    tensors = [states, values, input, ih, *biases, hh]
    if into is not None:
        tensors = [q, None, None, q_last, states, values, hh, keep]
        tensors += [*into[:3], input, ih, *into[3:]]
    begin: list[Any] = _pointers(*tensors)
    if into is not None:
        begin[1:3] = (0, 0) if q is None else q.stride()[1:3]
    growth = [0 if t is None else t.stride(0) * t.element_size() for t in tensors]
    kind = _UnrollArgs if into is None else _SweepArgs
    first = kind(*begin, L, N, I, H, PHI[phi])
    given = byref(first), _array(c_long, tuple(growth)), _array(c_double, tuple(leaks)), count
    call = "unroll_many" if into is None else "sweep_many", states.dtype, *given
    busy = 1 + count * L * N * H * (H + I) // WORTH_A_THREAD

    def run(alive: object = tensors) -> None:
        _call(*call, min(busy, torch.get_num_threads()))

    return run


@lru_cache(maxsize=64)
def _array(kind: Any, numbers: tuple[float, ...]) -> Any:
    """An array in C, not to be written to."""
    return (kind * len(numbers))(*numbers)


def _check_shapes(input_LNI: Tensor, hx_NH: Tensor, weights: Weights) -> None:
    """Refuse what the core, which sees pointers only, would read beyond its end."""
    (_, batch_size, input_size), hidden_size = input_LNI.shape, weights.hh.shape[0]
    of_hx, of_ih, of_hh = (batch_size, hidden_size), (hidden_size, input_size), (hidden_size,) * 2
    shapes, given = (of_hx, of_ih, of_hh, of_hh[:1], of_hh[:1]), (hx_NH, *weights)
    for index, (tensor, shape) in enumerate(zip(given, shapes, strict=True)):
        if tensor is not None and tensor.shape != shape:
            name = ("hx", *Weights._fields)[index]
            raise RuntimeError(
                f"{name} has shape {tuple(tensor.shape)}, but {batch_size} sequences, {input_size} "
                f"numbers a step and {hidden_size} hidden units need {shape}"
            )


def rows(q: Tensor) -> Tensor:
    """The same credit, (..., H), with contiguous rows; other dimensions keep their strides."""
    if q.stride(-1) == 1 or q.shape[-1] == 1:
        return q
    if not any(q.stride()):  # a gradient of sum(): one row of it is enough
        return q[(0,) * (q.dim() - 1)].contiguous().expand(q.shape)
    return q.contiguous()


def _pointers(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]
