"""A trained network written for programs that have no bptt_lab."""

import io
from pathlib import Path
from typing import Literal

import torch

from bptt_lab.core.validation import ConfigError, check, missing
from bptt_lab.lab.net import Net
from bptt_lab.lab.torch_file import torch_content
from bptt_lab.runs import files

Form = Literal["onnx", "torch"]


def export(net: Net, path: str | Path, to: Form = "onnx") -> None:
    """Write a network to a file, whole or not at all; what had the name before is gone.

    Args:
        net: what `lab.load` returned.
        path: the file.
        to: "onnx" for an ONNX model, see bptt_lab.lab.onnx_model; "torch" for the state dicts of
            torch.nn.RNN and torch.nn.Linear, see bptt_lab.lab.torch_file.

    Raises:
        ConfigError: where the package onnx is needed and not installed, and for a network that
            torch.nn.RNN cannot be.
        OSError: for a file that cannot be written.

    Examples:
        lab.export(lab.load("outputs/run"), "net.onnx")
    """
    check("to", to, Form, {})
    buffer = io.BytesIO()
    if to == "onnx":
        if problem := missing("onnx", "bptt_lab[onnx]"):
            raise ConfigError(f"to=onnx: {problem}")
        from bptt_lab.lab.onnx_model import onnx_model

        buffer.write(onnx_model(net).SerializeToString())
    else:
        torch.save(torch_content(net), buffer)
    with files.replacing(Path(path)) as file:
        file.write(buffer.getvalue())
