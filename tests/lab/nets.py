"""Small networks with a readout, of many kinds, as lab.load would give them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from bptt_lab import VanillaRNN
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.lab import Codec, Net, Network


class Kind(NamedTuple):
    """What a network is like."""

    input_size: int = 3
    hidden_size: int = 9
    output_size: int = 2
    num_layers: int = 1
    nonlinearity: str = "tanh"
    bias: bool = True
    leak: float = 1.0
    dropout: float = 0.0
    embedding_size: int | None = None
    dtype: torch.dtype = torch.float32
    loss: str = "mse"


def make(kind: Kind, gradient: GradientStrategy | None = None) -> Net:
    torch.manual_seed(0)
    rnn = VanillaRNN(
        kind.embedding_size or kind.input_size,
        kind.hidden_size,
        kind.num_layers,
        kind.nonlinearity,
        kind.bias,
        dropout=kind.dropout,
        leak=kind.leak,
        gradient=gradient,
    )
    readout = nn.Linear(kind.hidden_size, kind.output_size)
    size = kind.embedding_size
    embedding = None if size is None else nn.Linear(kind.input_size, size, bias=False)
    codec = Codec(kind.input_size, kind.output_size, kind.loss)
    return Net(Network(rnn, readout, embedding, codec)).to(kind.dtype)
