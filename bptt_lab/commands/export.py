"""The command `bptt-export`: a trained network for programs that have no bptt_lab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bptt_lab import runs
from bptt_lab.commands import command, trained
from bptt_lab.core.messages import columns, escaped
from bptt_lab.core.validation import ConfigError, missing

if TYPE_CHECKING:
    from bptt_lab.lab.net import Net

ENDS = {"onnx": "onnx", "torch": "pt"}
DESCRIPTION = """\
Write the network of a run as an ONNX model, whose inputs and outputs are then listed, or as state
dicts of torch.nn.RNN and torch.nn.Linear, with the lines of Python that load them."""


@command.named("bptt-export", lasting=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Load the network, write the file, and print how to use it."""
    args = trained.arguments(_parser(), argv)
    problem = missing("onnx", "bptt_lab[onnx]") if args.to == "onnx" else None
    if problem:
        raise ConfigError(f"--to onnx: {problem}")
    net = trained.load(args)
    path = args.output or command.output(str(trained.folder(args) / f"net.{ENDS[args.to]}"))
    from bptt_lab.lab.export import export

    export(net, path, args.to)
    use = _of_model(path) if args.to == "onnx" else _of_state_dicts(net, path)
    print(escaped("\n".join([f"{args.to}  {runs.shown(path)}", "", *use])), flush=True)
    return 0


def _of_model(path: Path) -> Iterator[str]:
    import onnx

    model = onnx.load_model(path)
    rows = [("name", "type", "shape", "")]
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type
        sizes = [str(size.dim_param or size.dim_value) for size in kind.shape.dim]
        numpy = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        rows.append((value.name, str(numpy), f"({', '.join(sizes)})", value.doc_string))
    layout = columns(rows)
    yield from (layout.format(*row).rstrip() for row in rows)
    yield f"\nmetadata: {', '.join(entry.key for entry in model.metadata_props)}"


def _of_state_dicts(net: Net, path: Path) -> Iterator[str]:
    from bptt_lab.lab.torch_file import loading_lines, meaning

    yield from loading_lines(net, runs.shown(path))
    yield from meaning(net)


def _parser() -> command.Parser:
    parser = trained.parser("bptt-export", DESCRIPTION)
    kinds = command.within(Literal["onnx", "torch"])
    parser.option("--to FORM", "onnx or torch", kinds, "onnx")
    where = "what has this name already is gone; default: net.onnx or net.pt in RUN_FOLDER"
    parser.option("--output FILE", where, command.output)
    return parser
