"""A trained network as torch's own modules: what a file of theirs holds, and how it is loaded."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bptt_lab.core.validation import ConfigError

if TYPE_CHECKING:
    from bptt_lab.lab.net import Net

NONLINEARITIES = ("tanh", "relu")  # of torch.nn.RNN


def torch_content(net: "Net") -> dict[str, Any]:
    """Return the state dicts of `rnn`, `readout` and perhaps `embedding`, and the plain `codec`.

    Saved by torch.save, it is loaded with weights_only=True.

    Raises:
        ConfigError: for a leak and a nonlinearity that torch.nn.RNN has not.
    """
    rnn = net.rnn
    if rnn.leak != 1 or rnn.nonlinearity not in NONLINEARITIES:
        key, value = ("leak", rnn.leak) if rnn.leak != 1 else ("nonlinearity", rnn.nonlinearity)
        raise ConfigError(f"model.{key}={value}: torch.nn.RNN has none; use --to onnx")
    parts = {"rnn": rnn, "readout": net.readout, "embedding": net.embedding}
    states = {name: dict(part.state_dict()) for name, part in parts.items() if part is not None}
    return {**states, "codec": net.codec.plain()}


def loading_lines(net: "Net", file: str) -> list[str]:
    """Return the lines of Python that make the modules of such a file."""
    rnn, dtype = net.rnn, net.readout.weight.dtype
    sizes = f"{rnn.input_size}, {rnn.hidden_size}, num_layers={rnn.num_layers}"
    kind = f'nonlinearity="{rnn.nonlinearity}", bias={rnn.bias}'
    precise = "" if dtype == torch.float32 else f", dtype={dtype}"
    made = {"rnn": f"RNN({sizes}, {kind}{precise})"}
    for name, part in {"readout": net.readout, "embedding": net.embedding}.items():
        if isinstance(part, nn.Linear):
            bare = "" if part.bias is not None else ", bias=False"
            made[name] = f"Linear({part.in_features}, {part.out_features}{bare}{precise})"
    lines = [f"saved = torch.load({file!r}, weights_only=True)"]
    for name, text in made.items():
        lines += [f"{name} = torch.nn.{text}", f'{name}.load_state_dict(saved["{name}"])']
    return lines


def meaning(net: "Net") -> list[str]:
    """Return comments that say what to make of the modules' input and output."""
    codec = net.codec
    read = "numbers"
    if codec.symbols:
        read = 'one-hot vectors of saved["codec"]["symbols"]'
    elif codec.input_mean or codec.input_std:
        read = '(x - codec["input_mean"]) / codec["input_std"], of saved["codec"]'
    written = "numbers"
    if codec.names_classes or codec.loss == "binary_cross_entropy":
        written = 'logits of saved["codec"]["classes"]' if codec.classes else "logits of classes"
    elif codec.output_mean or codec.output_std:
        written = 'y * codec["output_std"] + codec["output_mean"] is in the units of the targets'
    embedded = "embedding(input)" if net.embedding is not None else "input"
    return [
        f"# input (steps, batch, {codec.input_size}): {read}",
        f"# readout(rnn({embedded})[0]) (steps, batch, {codec.output_size}): {written}",
    ]
