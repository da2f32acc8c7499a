"""A network as plain data, in a checkpoint beside its parameters, and the network made of it again.

What is read may come from anyone: types, sizes and names are checked before anything is made.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn

from bptt_lab.config import components, schema, targets
from bptt_lab.config.components import refuse_unknown, validate
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.nn.rnn import VanillaRNN
from bptt_lab.runs.outcome import CheckpointError
from bptt_lab.tasks.codec import Codec
from bptt_lab.training import checkpoint_io

KEY = "network"  # in a checkpoint
FORM = 1  # of the description; a later one may hold what this version does not know
_PARTS = ("hidden_size", "num_layers", "nonlinearity", "bias", "dropout", "leak")


class Network(NamedTuple):
    """A recurrent network with what stands before and after it, and what its numbers mean."""

    rnn: VanillaRNN
    readout: nn.Linear  # from H states to O outputs
    embedding: nn.Linear | None  # from symbols to the rnn's inputs; None: these are one-hot
    codec: Codec


def described(network: Network) -> dict[str, Any]:
    """Return all of a network but its parameters, in plain containers."""
    model = {name: getattr(network.rnn, name) for name in _PARTS}
    embedding = network.embedding
    model["embedding_size"] = None if embedding is None else embedding.out_features
    gradient = section(network.rnn.gradient)
    return {"form": FORM, "model": model, "gradient": gradient, "codec": network.codec.plain()}


def section(strategy: GradientStrategy) -> dict[str, Any]:
    """Return a strategy as its class and settings, those that are strategies likewise."""
    kind = type(strategy)
    known = {
        n: vars(strategy)[n] for n in inspect.signature(kind).parameters if n in vars(strategy)
    }
    plain = {n: section(v) if isinstance(v, GradientStrategy) else v for n, v in known.items()}
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **plain}


def strategy_of(plain: object, allow: str | Iterable[str] = ()) -> GradientStrategy:
    """Undo `section`; `allow` is as on the command line.

    Raises:
        ConfigError: for a class that may not be named, and for settings that it refuses.
    """
    if not isinstance(plain, dict):
        raise ConfigError("gradient: must be a section")
    targets.refuse_foreign({"gradient": plain}, allow)
    component = components.component("gradient", plain)
    try:
        found: GradientStrategy = instantiate(component.section(), _convert_="all")
    except InstantiationException as error:
        raise ConfigError(f"gradient: {' '.join(str(error.__cause__ or error).split())}") from error
    return found


def load(path: Path, allow: str | Iterable[str] = ()) -> Network:
    """Read the network of a checkpoint; `allow` is as on the command line.

    Raises:
        ConfigError: on one line, for a checkpoint that is damaged or describes no network, and for
            a class that may not be named.
    """
    try:
        saved = checkpoint_io.read(path, "cpu")
    except CheckpointError as error:
        raise ConfigError(f"{error}; give another checkpoint") from error
    if KEY not in saved:
        problem = "does not say what its network is like, as earlier versions did not"
        raise ConfigError(f"{path}: {problem}; use lab.load(run_folder), which needs the data")
    try:
        return restored(saved, allow)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def restored(saved: Mapping[str, Any], allow: str | Iterable[str] = ()) -> Network:
    """Make the network that `described` was given, with a checkpoint's parameters.

    Raises:
        ConfigError: for what no network of ours has.
    """
    plain, state = saved.get(KEY), saved.get("state_dict")
    if not isinstance(plain, dict) or not isinstance(state, Mapping):
        raise ConfigError(f"{KEY}: must say what the network is like")
    if plain.get("form") != FORM:
        problem = f"this version of bptt_lab knows {FORM} only; install a later one"
        raise ConfigError(f"{KEY}.form={plain.get('form')!r:.20}: {problem}")
    codec, model = Codec.of(plain.get("codec")), plain.get("model")
    settings = schema.fields(schema.Model)
    if not isinstance(model, dict):
        raise ConfigError("model: must be a section")
    refuse_unknown("model", model, (*_PARTS, "embedding_size"))
    validate("model", model, {name: settings[name] for name in (*_PARTS, "embedding_size")})
    embedding_size = model.pop("embedding_size", None)
    dtype = _refuse_other_parameters(codec, model, embedding_size, state)
    gradient = strategy_of(plain.get("gradient"), allow)
    with torch.device("meta"):  # no room is taken before the parameters are there
        read = embedding_size or codec.input_size
        rnn = VanillaRNN(read, **model, dtype=dtype, gradient=gradient)
        readout = nn.Linear(rnn.hidden_size, codec.output_size, dtype=dtype)
        embedding = None
        if embedding_size is not None:
            embedding = nn.Linear(codec.input_size, embedding_size, bias=False, dtype=dtype)
    whole = nn.ModuleDict({"rnn": rnn, "readout": readout})
    if embedding is not None:
        whole["embedding"] = embedding
    whole.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=True)
    return Network(rnn, readout, embedding, codec)


def _refuse_other_parameters(
    codec: Codec, model: Mapping[str, Any], embedding_size: int | None, state: Mapping[Any, Any]
) -> torch.dtype:
    """Return the parameters' type; refuse those of another network than the one described."""
    count = (4 if model["bias"] else 2) * model["num_layers"]
    if len(state) != count + 2 + (embedding_size is not None):
        _refuse("their number is another one")
    dtypes = set()
    for name, shape in _shapes(codec, model, embedding_size):
        tensor = state.get(name)
        if not isinstance(tensor, Tensor) or tensor.shape != shape:
            _refuse(f"{name} is not there, or of another shape than {shape}")
        if tensor.layout != torch.strided or not tensor.is_contiguous() or not tensor.is_cpu:
            _refuse(f"{name} is stored in another way")
        dtypes.add(tensor.dtype)
    if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
        _refuse("they must all be in float32 or float64")
    return dtypes.pop()


def _shapes(
    codec: Codec, model: Mapping[str, Any], embedding_size: int | None
) -> Iterator[tuple[str, tuple[int, ...]]]:
    read, hidden = embedding_size or codec.input_size, model["hidden_size"]
    if embedding_size is not None:
        yield "embedding.weight", (embedding_size, codec.input_size)
    for layer in range(model["num_layers"]):
        yield f"rnn.weight_ih_l{layer}", (hidden, hidden if layer else read)
        yield f"rnn.weight_hh_l{layer}", (hidden, hidden)
        for kind in ("ih", "hh") if model["bias"] else ():
            yield f"rnn.bias_{kind}_l{layer}", (hidden,)
    yield "readout.weight", (codec.output_size, hidden)
    yield "readout.bias", (codec.output_size,)


def _refuse(problem: str) -> NoReturn:
    raise ConfigError(f"its parameters are not those of the network it describes: {problem}")
