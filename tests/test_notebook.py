"""The example's notebook, in a kernel: its bits are the command line's, an interrupt saves."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from commands import Forked
from nbclient import NotebookClient

from bptt_lab import lab, runs

EXAMPLE = Path(__file__).parents[1] / "examples" / "from_arrays.ipynb"
TRAIN = "bptt_lab.commands.train.cli:main"
TOLD = """
import json
right = float(np.mean(np.array(answers) == np.array(targets)))
json.dumps([str(run.folder), [str(one.folder) for one in sweep.runs], right])
"""
INTERRUPTED = """
import os, signal, threading, time
from pathlib import Path

def interrupt():
    while not Path("cut/checkpoints/last.ckpt").is_file():
        time.sleep(0.02)
    os.killpg(0, signal.SIGINT)  # as Jupyter does

threading.Thread(target=interrupt).start()
try:
    long = {"trainer.max_epochs": 100000, "checkpoint_seconds": 0.1}
    lab.train({**small, **long}, data=data, folder="cut")
    said = "nothing"
except KeyboardInterrupt as error:
    said = str(error)
said
"""


@pytest.mark.slow
def test_the_notebook(tmp_path: Path) -> None:
    """One test, since a kernel takes seconds: its runs, what it shows, an interrupt."""
    executed = execute(tmp_path)
    runs_are_the_commands(*executed)
    pictures_tables_and_progress_are_shown(*executed)
    an_interrupt_of_the_kernel_saves(*executed)


def execute(folder: Path) -> tuple[Path, nbformat.NotebookNode]:
    notebook = nbformat.read(EXAMPLE, as_version=4)
    for source in (TOLD, INTERRUPTED):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return folder, notebook


def value(notebook: nbformat.NotebookNode, place: int) -> str:
    """What a cell ends with, as Python writes it."""
    (output,) = [o for o in notebook.cells[place].outputs if o.output_type == "execute_result"]
    return str(output.data["text/plain"])


def runs_are_the_commands(folder: Path, notebook: nbformat.NotebookNode) -> None:
    own, jobs, right = json.loads(value(notebook, -2).strip("'"))
    assert len(jobs) == 6
    assert right > 0.9
    for place in (own, jobs[-1]):
        run = lab.open(place)
        assert isinstance(run, lab.Run)
        words = tuple(run.record.overrides)
        again = f"outputs/again_{Path(place).name[:3]}"
        Forked(TRAIN, (*words, f"hydra.run.dir={again}"), folder).communicate()
        there = runs.read_run(folder / again)
        assert there.parameters_sha256 == run.parameters_sha256


def pictures_tables_and_progress_are_shown(folder: Path, notebook: nbformat.NotebookNode) -> None:
    shown = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    pictures = [o for o in shown if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
    assert any("<table" in o.get("data", {}).get("text/html", "") for o in shown)
    text = "".join(o.text for o in shown if o.output_type == "stream")
    assert "epoch 15 of 15" in text
    assert "\x1b" not in text
    assert (folder / "turns.onnx").is_file()


def an_interrupt_of_the_kernel_saves(folder: Path, notebook: nbformat.NotebookNode) -> None:
    assert "lab.train(resume=" in value(notebook, -1)
    run = runs.read_run(folder / "cut")
    assert run.status == "interrupted"
    assert (folder / "cut" / "checkpoints" / "last.ckpt").is_file()
    assert not os.path.lexists(folder / "cut" / "checkpoints" / ".last.ckpt.part")
