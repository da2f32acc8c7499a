"""The C core of the recurrence, as functions of tensors: float32 and float64 on a CPU.

The library is plain C, compiled when the package is installed if there is a compiler, and loaded
here by ctypes; `available` says whether it is there. It packs W_hh once a call, splits the batch
over torch.get_num_threads() threads for the whole sequence, and keeps delta for a few steps at a
time only. Equations are those of bptt_lab.core.cell.
"""

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_long, c_void_p
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
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
# Which 8 bytes of a struct hold a field, by its name there or in Swept.
_PLACES = {
    name: {
        field[0].replace("grad_w_", "grad_weight_"): getattr(kind, field[0]).offset // 8
        for field in kind._fields_
    }
    for name, kind in (("unroll", _UnrollArgs), ("sweep", _SweepArgs))
}


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
                many.argtypes = [c_void_p, c_int, c_int]
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
    input_LNI: Tensor, hx_NH: Tensor, weights: Weights, cell: Cell, values: Tensor | None = None
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
    name: str, layers: Layer, phi: str, leaks: Sequence[float], more: Mapping[str, Tensor | None]
) -> Callable[[], None]:
    """Prepare R calls of "unroll" or "sweep" as one; see bptt_lab.core.many.

    `more` are a sweep's other tensors, by the names of the struct or of `Swept`.
    """
    (count, L, N, I), states, (ih, hh, *biases) = layers.input.shape, layers.states, layers.weights
    H = states.shape[3]
    tensors: dict[str, Tensor | None] = {"states": states, "values": layers.values}
    tensors |= {"input": layers.input, "w_ih": ih, "w_hh": hh} | dict(more)
    if name == "unroll":
        tensors["bias_ih"], tensors["bias_hh"] = biases
    place = _PLACES[name]
    # What each 8 bytes of the first struct hold, and how much they grow from one to the next.
    begin, growth = [0] * (place["leak"] + 1), [0] * (place["leak"] + 1)
    begin[place["L"] : place["phi"]] = L, N, I, H
    for field, tensor in tensors.items():
        if tensor is not None:
            begin[place[field]] = tensor.data_ptr()
            growth[place[field]] = tensor.stride(0) * tensor.element_size()
    if (q := more.get("q")) is not None:
        begin[place["q_stride_t"]], begin[place["q_stride_n"]] = q.stride()[1:3]
    second = states.data_ptr() + states.stride(1) * states.element_size()
    alike = (0, 0) if name == "unroll" else (second, growth[place["states"]])
    args = _structs(name, tuple(begin), tuple(growth), PHI[phi], tuple(leaks), alike)
    call = f"{name}_many", states.dtype, args.ctypes.data, count
    busy = 1 + count * L * N * H * (H + I) // WORTH_A_THREAD

    def run(alive: object = (args, layers, more)) -> None:
        _call(*call, min(busy, torch.get_num_threads()))

    return run


@lru_cache(maxsize=64)
def _structs(
    name: str,
    begin: tuple[int, ...],
    growth: tuple[int, ...],
    phi: int,
    leaks: tuple[float, ...],
    alike: tuple[int, int],
) -> Any:
    """The structs of R calls; tensors of one step often lie where those of the last one did.

    `alike` says as begin and growth do where phi's values are with leak 1, which are the states.
    """
    place, index = _PLACES[name], np.arange(len(leaks))
    args = np.array(begin) + index[:, None] * np.array(growth)
    args.view(np.int32)[:, 2 * place["phi"]] = phi
    args.view(np.float64)[:, place["leak"]] = leaks
    rows = np.flatnonzero(np.array(leaks) == 1)
    args[rows, place["values"]] = alike[0] + rows * alike[1]
    return args


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
