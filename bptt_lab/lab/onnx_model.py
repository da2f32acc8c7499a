"""A trained network as an ONNX model: one RNN node a layer, or one Scan where the leak is below 1.

    input      (steps, batch, I) numbers, or (steps, batch) places of symbols in their list
    initial_h  (num_layers, batch, H), the state before the first step
    output     (steps, batch, O), logits of classes, or numbers
    Y_h        (num_layers, batch, H), the state after the last step

Steps and batch may be of any size. What a codec does to numbers is part of the model, in float64 as
there: they go in and come out in the units of the data, and logits are left as they are.
"""

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor

from bptt_lab.core.cell import Weights, bias
from bptt_lab.training.manifest import parameter_hash

if TYPE_CHECKING:
    from bptt_lab.lab.net import Net
    from bptt_lab.nn.rnn import VanillaRNN

Shape = list[str | int]
OPSET, IR_VERSION = 13, 7  # of onnxruntime 1.6 and later
ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "identity": "Affine", "sigmoid": "Sigmoid"}


def onnx_model(net: "Net") -> ModelProto:
    """Return the model, in float32, checked by onnx.checker.

    Its `metadata_props` are `codec`, `symbols` and `classes` as JSON, and `parameters_sha256` as
    the run's summary has it.
    """
    rnn, readout, embedding, codec = net.rnn, net.readout, net.embedding, net.codec
    graph = _Graph()
    x = graph.read(codec, None if embedding is None else embedding.weight)
    x, last = graph.recur(x, rnn)
    weight = graph.constant("readout_weight", _array(readout.weight).T)
    x = graph.node("MatMul", [x, weight], "readout_product")
    numbers = bool(codec.output_mean or codec.output_std)
    end = "prediction" if numbers else "output"
    x = graph.node("Add", [x, graph.constant("readout_bias", _array(readout.bias))], end)
    if numbers:
        graph.rescale(x, codec.output_mean, codec.output_std)
    graph.node("Concat", last, "Y_h", axis=0)
    inputs, outputs = _values(net)
    whole = helper.make_graph(
        graph.nodes, "bptt_lab", inputs, outputs, list(graph.initializers()), doc_string=__doc__
    )
    model = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="bptt_lab",
        producer_version=version("bptt_lab"),
    )
    known = codec.plain()
    named = {"codec": known, "symbols": known["symbols"], "classes": known["classes"]}
    metadata = {name: json.dumps(value) for name, value in named.items()}
    metadata["parameters_sha256"] = parameter_hash(net.state_dict())
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def _values(net: "Net") -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """What goes into the model and what comes out of it, with words that say what that is."""
    codec, size = net.codec, net.codec.input_size
    shape: Shape = ["steps", "batch"]
    state: Shape = [net.rnn.num_layers, "batch", net.rnn.hidden_size]
    if codec.symbols:
        words = f"places of the {size} symbols in their list, from 0"
        read = _value("input", np.int64, shape, words)
    elif codec.input_mean or codec.input_std:
        read = _value("input", np.float64, [*shape, size], "numbers in the units of the data")
    else:
        read = _value("input", np.float32, [*shape, size], "numbers")
    scaled = bool(codec.output_mean or codec.output_std)
    words = "numbers in the units of the targets" if scaled else "numbers"
    if codec.names_classes or codec.loss == "binary_cross_entropy":
        words = "logits of the classes"
    written = _value(
        "output", np.float64 if scaled else np.float32, [*shape, codec.output_size], words
    )
    before = _value("initial_h", np.float32, state, "zeros, or Y_h of the steps before")
    after = _value("Y_h", np.float32, state, "the state after the last step")
    return [read, before], [written, after]


class _Graph:
    """The nodes and constants of a model, and how parts of a network are written in them."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node of one output, and return the output's name."""
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant, and return its name."""
        self._constants[name] = np.ascontiguousarray(value)
        return name

    def initializers(self) -> Iterator[Any]:
        """Yield the constants as ONNX has them."""
        for name, value in self._constants.items():
            yield numpy_helper.from_array(value, name)

    def read(self, codec: Any, embedding: Tensor | None) -> str:
        """From the model's input to the network's, (steps, batch, I) or what it is embedded in."""
        if codec.symbols and embedding is not None:
            table = self.constant("embedding", _array(embedding).T)
            return self.node("Gather", [table, "input"], "embedded")
        x = "input"
        if codec.symbols:
            depth = self.constant("num_symbols", np.array(codec.input_size))
            values = self.constant("off_on", np.array([0, 1], np.float32))
            x = self.node("OneHot", ["input", depth, values], "one_hot")
        elif codec.input_mean or codec.input_std:
            mean = self.constant("input_mean", np.array(codec.input_mean or (0.0,)))
            std = self.constant("input_std", np.array(codec.input_std or (1.0,)))
            x = self.node("Div", [self.node("Sub", [x, mean], "centred"), std], "normalised")
            x = self.node("Cast", [x], "encoded", to=_type(np.float32))
        if embedding is not None:
            x = self.node(
                "MatMul", [x, self.constant("embedding", _array(embedding).T)], "embedded"
            )
        return x

    def rescale(self, x: str, mean: Sequence[float], std: Sequence[float]) -> None:
        """From the readout to the model's output, in the units of the targets."""
        x = self.node("Cast", [x], "precise", to=_type(np.float64))
        factor = self.constant("output_std", np.array(std or (1.0,)))
        shift = self.constant("output_mean", np.array(mean or (0.0,)))
        self.node("Add", [self.node("Mul", [x, factor], "scaled"), shift], "output")

    def recur(self, x: str, rnn: "VanillaRNN") -> tuple[str, list[str]]:
        """From the network's input to the states of its last layer and the last of every layer."""
        layers = range(rnn.num_layers)
        first = ["initial_h"]
        if rnn.num_layers > 1:
            first = [f"initial_h_l{index}" for index in layers]
            self.nodes.append(helper.make_node("Split", ["initial_h"], first, "split", axis=0))
        direction = self.constant("direction_axis", np.array([1]))
        last = []
        for index, parameters, h in zip(layers, rnn.all_weights, first, strict=True):
            write = self._rnn if rnn.leak == 1 else self._scan
            y = write(x, h, Weights(*parameters), rnn, f"l{index}")
            x = self.node("Squeeze", [y, direction], f"states_l{index}")
            last.append(f"last_l{index}")
        return x, last

    def _rnn(self, x: str, h: str, weights: Weights, rnn: "VanillaRNN", layer: str) -> str:
        w = self.constant(f"W_{layer}", _array(weights.ih)[None])
        r = self.constant(f"R_{layer}", _array(weights.hh)[None])
        b = ""
        if weights.bias_ih is not None and weights.bias_hh is not None:
            both = _array(weights.bias_ih), _array(weights.bias_hh)
            b = self.constant(f"B_{layer}", np.concatenate(both)[None])
        settings: dict[str, Any] = {"activations": [ACTIVATIONS[rnn.nonlinearity]]}
        if rnn.nonlinearity == "identity":
            settings |= {"activation_alpha": [1.0], "activation_beta": [0.0]}
        inputs, outputs = [x, w, r, b, "", h], [f"Y_{layer}", f"last_{layer}"]
        settings["hidden_size"] = rnn.hidden_size
        self.nodes.append(helper.make_node("RNN", inputs, outputs, f"rnn_{layer}", **settings))
        return outputs[0]

    def _scan(self, x: str, h: str, weights: Weights, rnn: "VanillaRNN", layer: str) -> str:
        """The step of bptt_lab.core.cell as the body of a loop, its projection before the loop."""
        ih = self.constant(f"W_{layer}", _array(weights.ih).T)
        hh = self.constant(f"R_{layer}", _array(weights.hh).T)
        x = self.node("MatMul", [x, ih], f"product_{layer}")
        if (shift := bias(weights)) is not None:
            b = self.constant(f"B_{layer}", _array(shift))
            x = self.node("Add", [x, b], f"shifted_{layer}")
        leak = self.constant(f"leak_{layer}", np.array(rnn.leak, np.float32))
        keep = self.constant(f"keep_{layer}", np.array(1 - rnn.leak, np.float32))
        body, before, read = _Graph(), f"h_tm1_{layer}", f"x_t_{layer}"
        product = body.node("MatMul", [before, hh], f"recurrent_{layer}")
        y = body.node("Add", [read, product], f"a_{layer}")
        if rnn.nonlinearity != "identity":
            y = body.node(ACTIVATIONS[rnn.nonlinearity], [y], f"phi_{layer}")
        kept = body.node("Mul", [before, keep], f"kept_{layer}")
        state = body.node("Add", [kept, body.node("Mul", [y, leak], f"new_{layer}")], f"h_{layer}")
        copy = body.node("Identity", [state], f"y_{layer}")
        shape: Shape = [1, "batch", rnn.hidden_size]
        step = helper.make_graph(
            body.nodes,
            f"step_{layer}",
            [_value(before, np.float32, shape), _value(read, np.float32, shape[1:])],
            [_value(state, np.float32, shape), _value(copy, np.float32, shape)],
        )
        outputs = [f"last_{layer}", f"Y_{layer}"]
        self.nodes.append(
            helper.make_node("Scan", [h, x], outputs, f"scan_{layer}", body=step, num_scan_inputs=1)
        )
        return outputs[1]


def _array(parameter: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = parameter.detach().float().cpu().numpy()
    return found


def _type(kind: Any) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(kind))


def _value(name: str, kind: Any, shape: Sequence[str | int], words: str = "") -> ValueInfoProto:
    return helper.make_tensor_value_info(name, _type(kind), shape, words)
