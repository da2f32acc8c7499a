"""bptt-bench: what it refuses, computes and writes. How long anything took is never a test."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch

from bptt_lab.commands import peak_memory, timing
from bptt_lab.commands.bench import cli, implementations
from bptt_lab.commands.bench.implementations import BASELINE, OTHERS, USUAL, find
from bptt_lab.commands.bench.measure import (
    applied,
    draw,
    error,
    gradient_error,
    one_pass,
    solve,
)
from bptt_lab.commands.bench.report import _with_memory
from bptt_lab.commands.bench.workload import (
    BOTH,
    FORWARD,
    SHAPES,
    Conditions,
    Shape,
    flops,
    parse_shape,
)
from bptt_lab.config.strategies import packaged
from bptt_lab.core.kernels import core
from bptt_lab.core.machine import cores

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import speed_table

TINY = Shape(9, 3, 2, 5)
LONG = Shape(40, 3, 2, 5)  # longer than truncated's lag
NAMES = [*(name for name in OTHERS if OTHERS[name].missing() is None), *packaged().trusted()]
with (speed_table.ROOT / "benchmarks/amd-epyc-2-cores-avx512.csv").open() as kept:
    KEPT = next(csv.reader(kept))  # the columns, as a file has them that was written once
QUICK = [BASELINE, "full", "full-reference", "truncated:k=3", "rtrl", "rtrl-products"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--shapes 1,2,3", "--shapes=1,2,3: must be four whole numbers above zero"),
        ("--shapes 64,32,28,64 0,1,1,1", "--shapes=0,1,1,1: must be four"),
        ("--shapes 64,-1,2,3", "--shapes=64,-1,2,3: must be four"),
        ("--shapes 1,2,3,x", "--shapes=1,2,3,x: must be four"),
        ("--shapes 4,2,2,999999999", "--shapes=4,2,2,999999999: must fit the memory, "),
        ("--only full,nope", "nope: must be one of nn.RNN, full-reference"),
        ("--only rtrl:blok=2", "blok=2: there is no such setting"),
        ("--only rtrl:block=0", "block=0: must be at least 1"),
        ("--only rtrl:block", "must give settings as rtrl:key=value"),
        ("--only full --past-facing", "--past-facing"),
        ("--isa mmx", "--isa=mmx: must be one of avx512"),
        ("--threads 0", "--threads=0: must be at least 1"),
        (f"--threads {cores() + 1}", f"must be at most {cores()}"),
        ("--rounds x", "--rounds=x: must be an integer"),
        ("--device tpu", "--device=tpu: must be one of cpu, cuda"),
        ("--dtype tf32", "--dtype=tf32: only a GPU"),
        ("--frobnicate", "unrecognized arguments: --frobnicate"),
    ],
)
def test_a_wrong_argument_is_one_line_and_code_2(arguments, complaint, capsys):
    assert cli.main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bptt-bench: ") and complaint in err
    assert err.count("\n") == 1


def test_a_device_that_is_not_there_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("bptt_lab.config.gpus.count", lambda: 0)
    assert cli.main(["--device", "cuda"]) == 2
    assert "shows no CUDA device here; use --device cpu" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU")
def test_a_device_that_torch_cannot_use_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("bptt_lab.config.gpus.count", lambda: 1)
    assert cli.main(["--device", "cuda"]) == 2
    assert "install a build with CUDA" in capsys.readouterr().err


def test_what_is_not_installed_is_refused_by_name_and_else_left_out(monkeypatch, capsys):
    monkeypatch.setattr(implementations, "find_spec", lambda name: None if name == "jax" else name)
    assert cli.main(["--only", "jax"]) == 2
    assert "pip install 'bptt_lab[jax]'" in capsys.readouterr().err
    options = cli.parse([])
    assert named(options) == [name for name in USUAL if name != "jax"]
    assert len(options.left_out) == 1 and "bptt_lab[jax]" in options.left_out[0]


def test_arguments_are_checked_before_torch_is_imported():
    script = (
        "import sys; from bptt_lab.commands.bench import cli\n"
        "assert cli.main(['--threads', '0']) == 2; cli.parse(['--only', 'nn.RNN,full,rtrl'])\n"
        "assert not {'torch', 'jax', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_defaults():
    options = cli.parse([])
    assert options.shapes == list(SHAPES) and len(SHAPES) == 8
    assert options.threads == list(range(1, min(2, cores()) + 1))
    assert options.precisions == ["float32"] and options.rounds is None
    assert named(cli.parse(["--only", "full,nn.RNN,full"])) == ["full", "nn.RNN"]


def test_past_facing_strategies_are_found_by_their_class():
    found = named(cli.parse(["--past-facing"]))
    assert {"full", "rtrl", "snap1", "uoro", "rtrl-products"} <= set(found)
    assert not {"truncated", "autograd", "checkpointed"} & set(found)


def test_floor_counts_every_product_once():
    # Multiplications of the products that the reference makes, two operations each.
    L, N, I, H = TINY
    project, recur = L * N * H * I, L * N * H * H
    assert flops(TINY, "forward") == 2 * (project + recur)
    # Back: credit through W_hh, dW_hh; dW_ih. No gradient of the input.
    assert flops(TINY, "forward+backward") == 2 * (project + recur) + 2 * (2 * recur + project)
    assert flops(Shape(64, 32, 28, 64), "forward+backward") == 4 * 3670016 + 6 * 8388608


def test_parse_shape_reads_what_it_prints():
    assert all(parse_shape(str(shape)) == shape for shape in SHAPES)


def test_calls_alternate_and_short_calls_are_warm():
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ABC"}
    seconds = timing.alternate(calls, rounds=2)
    # A call to see how long each takes; then twice in each turn, of which one counts.
    assert "".join(order) == "ABC" + "AABBCC" * 2
    assert [len(seconds[name]) for name in "ABC"] == [2, 2, 2]


def test_long_calls_take_one_turn_a_round(monkeypatch):
    order: list[str] = []
    monkeypatch.setattr(timing, "SHORT", 0)
    timing.alternate({name: lambda name=name: order.append(name) for name in "AB"}, rounds=2)
    assert "".join(order) == "AB" * 3


def test_the_number_of_rounds_fits_the_budget(monkeypatch):
    monkeypatch.setattr(timing, "clock", lambda call, synchronise: 0.5)
    assert len(timing.alternate({"A": None, "B": None}, None)["A"]) == timing.BUDGET / 1.0
    monkeypatch.setattr(timing, "clock", lambda call, synchronise: 60.0)
    assert len(timing.alternate({"A": None}, None)["A"]) == timing.FEWEST
    monkeypatch.setattr(timing, "clock", lambda call, synchronise: 1e-6)
    assert len(timing.alternate({"A": None}, None)["A"]) == timing.MOST


def test_ratio_by_minima_and_by_the_median_of_pairs():
    assert timing.times_as_fast([1.0, 2.0, 4.0], [3.0, 2.0, 16.0]) == (2.0, 3.0)
    assert timing.times_as_fast([1.0], None) == (None, None)


def test_errors_are_relative_to_the_largest_value():
    right = torch.tensor([1.0, -4.0], dtype=torch.float64)
    assert error(torch.tensor([1.0, -3.0]), right) == 0.25
    assert gradient_error({"a": right, "b": right * 1.5}, {"a": right, "b": right}) == 0.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_every_implementation_gives_the_answer_that_it_claims(name, precision):
    problem = draw(LONG, Conditions("cpu", precision, 1, "none"))
    (right, right_gradients), prepared = solve(problem), find(name).prepare(problem)
    tolerance = 1e-5 if precision == "float32" else 1e-13
    if not prepared.claims:
        assert prepared.passes[BOTH]() == (None, {}) and FORWARD not in prepared.passes
        return
    for _ in range(2):  # the second call starts from nothing, too
        output, gradients = prepared.passes[BOTH]()
        assert gradients.keys() == problem.weights.keys()
        assert error(output, right) < tolerance
        off = gradient_error(gradients, right_gradients)
        # At lag 25 the bias is there, and below float32's tolerance.
        small = prepared.claims == "exact" or (name, precision) == ("online_bptt", "float32")
        assert (off < tolerance) == small
    assert error(prepared.passes[FORWARD]()[0], right) < tolerance


@pytest.mark.skipif(not core.available(), reason="the C core was not built")
def test_full_runs_on_the_core_and_full_reference_without(monkeypatch):
    used: list[str] = []
    for function in (core.unroll, core.sweep):

        def spy(*args, _function=function, **kwargs):
            used.append(_function.__name__)
            return _function(*args, **kwargs)

        monkeypatch.setattr(core, function.__name__, spy)
    supports = core.supports
    problem = draw(TINY, Conditions("cpu", "float32", 1, "none"))
    find("full-reference").prepare(problem).passes[BOTH]()
    assert used == [] and core.supports is supports
    find("full").prepare(problem).passes[BOTH]()
    assert used == ["unroll", "sweep"]


@pytest.mark.skipif(not core.available(), reason="the C core was not built")
def test_an_instruction_set_is_chosen_for_the_run_alone(tmp_path, monkeypatch):
    before = core.instruction_set()
    _, rows = bench(tmp_path, monkeypatch, "--only", "full", "--isa", "generic")
    assert {row["instruction_set"] for row in rows} == {"generic"}
    assert core.instruction_set() == before


@pytest.mark.skipif(not core.available(), reason="the C core was not built")
def test_an_instruction_set_that_the_processor_lacks_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "Isa", Literal["generic", "avx10000"])
    assert cli.main(["--only", "full", "--isa", "avx10000"]) == 2
    assert "avx10000: the C core cannot use it here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_on_a_gpu_the_core_is_left_as_it_is():
    before = core.instruction_set()
    with applied(Conditions("cuda", "tf32", 1, "none")):
        assert core.instruction_set() == before


@pytest.mark.slow
def test_where_nothing_can_be_measured_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shape = "2,9,600,600"  # an influence above the limit that the option sets
    assert cli.main(["--only", "rtrl", "--shapes", shape, "--threads", "1"]) == 2
    err = capsys.readouterr().err
    assert "rtrl: left out: " in err and "nothing could be measured" in err


def named(options):
    return [each.name for each in options.implementations]


def bench(folder, monkeypatch, *arguments):
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    assert cli.main(["--shapes", str(TINY), "--rounds", "1", "--threads", "1", *arguments]) == 0
    assert torch.get_num_threads() == threads
    (run,) = (folder / "outputs").iterdir()
    with (run / "results.csv").open() as file:
        return run, list(csv.DictReader(file))


def test_a_run_prints_a_table_and_writes_its_rows(tmp_path, monkeypatch, capsys):
    _, rows = bench(tmp_path, monkeypatch, "--only", ",".join(QUICK))
    assert list(rows[0]) == KEPT
    assert [(row["implementation"], row["pass"]) for row in rows] == [
        *((name, which) for name in QUICK[:-1] for which in ("forward+backward", "forward")),
        (QUICK[-1], "forward+backward"),
    ]
    for row in rows:
        assert [row[letter] for letter in "LNIH"] == ["9", "3", "2", "5"]
        assert (row["device"], row["precision"]) == ("cpu", "float32")
        assert (row["threads"], row["rounds"]) == ("1", "1")
        assert 0 < float(row["min_ms"]) <= float(row["median_ms"])
        assert float(row["first_call_ms"]) > 0 and float(row["times_floor"]) > 0
        rate = float(row["product_gflops"]) * 1e9
        floor_ms = flops(TINY, row["pass"]) / rate * 1e3
        assert float(row["floor_ms"]) == pytest.approx(floor_ms, rel=1e-4)
        if row["claims"]:
            assert float(row["error_output"]) < 1e-5
        if row["pass"] == "forward" or not row["claims"]:
            assert row["error_gradient"] == ""
        else:
            assert (float(row["error_gradient"]) < 1e-5) == (row["claims"] == "exact")
        assert row["peak_mb"] == ""
        if row["implementation"] == BASELINE:
            assert row["times_as_fast_min"] == row["times_as_fast_median"] == "1"
        assert f"torch {torch.__version__}" in row["versions"]
        assert row["instruction_set"] == (core.instruction_set() or "none")
    out, err = capsys.readouterr()
    assert rows[0]["machine"] in out and "kernel: " in out
    assert all(f"\ngeometric mean  {name} " in out for name in QUICK)
    assert "1 thread, float32: 9,3,2,5" in err


def test_without_the_baseline_there_are_no_ratios(tmp_path, monkeypatch):
    _, rows = bench(tmp_path, monkeypatch, "--only", "full", "--dtype", "float64")
    assert {row["times_as_fast_min"] for row in rows} == {""}
    assert {row["precision"] for row in rows} == {"float64"}


def test_runs_of_one_second_keep_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "now")
    bench(tmp_path, monkeypatch, "--only", "nn.RNN")
    assert (
        cli.main(["--shapes", str(TINY), "--rounds", "1", "--threads", "1", "--only", "full"]) == 0
    )
    assert len(list((tmp_path / "outputs").glob("bench_now_*"))) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a peak anew")
def test_peak_memory_is_that_of_the_states_and_more_for_nn_rnn():
    shape = Shape(400, 32, 4, 128)  # 6.6 MB of states
    states = shape.L * shape.N * shape.H * 4
    here = Conditions("cpu", "float32", 1, core.instruction_set() or "none")
    peaks = {
        name: peak_memory.peak(one_pass, shape, here, find(name)) for name in ("nn.RNN", "full")
    }
    assert 0.9 * states < peaks["full"] < 3 * states
    assert 3 * states < peaks["nn.RNN"] < 8 * states


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("__import__('os')._exit(9)", "BrokenProcessPool: "),
        ("__import__('torch').empty(10**17)", "RuntimeError: .*can't allocate memory"),
        ("[0] * 10**17", "MemoryError"),
        ("open('/no/such/file')", "FileNotFoundError"),  # as where there is no /proc
    ],
)
def test_a_peak_may_be_unknown_and_why_is_said(call, words):
    with pytest.raises(peak_memory.Unmeasured, match=f"(?s){words}"):
        peak_memory.peak(eval, f"lambda: {call}")


@pytest.mark.parametrize(
    ("call", "error"),
    [("int('nope')", ValueError), ("__import__('torch').ones(2).view(3)", RuntimeError)],
)
def test_what_else_a_call_raises_is_seen(call, error):
    with pytest.raises(error, match=r"nope|shape '\[3\]' is invalid"):
        peak_memory.peak(eval, f"lambda: {call}")


def test_a_row_goes_without_a_peak_that_is_unknown_and_with_no_other_error(monkeypatch, capsys):
    here = Conditions("cpu", "float32", 1, "none")
    row = {"pass": BOTH, "device": "cpu", **TINY._asdict()}
    raised = peak_memory.Unmeasured("MemoryError: ")

    def peak(*_, **__):
        raise raised

    monkeypatch.setattr(peak_memory, "peak", peak)
    assert _with_memory(row, here, find("full")) == row
    assert "no peak memory: MemoryError" in capsys.readouterr().err
    raised = AttributeError("ours")
    with pytest.raises(AttributeError, match="ours"):
        _with_memory(row, here, find("full"))


def test_the_speeds_in_the_page_are_those_of_the_file_that_it_names():
    page = speed_table.PAGE.read_text()
    assert speed_table.marked(speed_table.source(page)) in page


def test_the_table_of_speeds(tmp_path, monkeypatch):
    run, rows = bench(tmp_path, monkeypatch, "--only", "nn.RNN,full,truncated")
    lines = speed_table.marked(str(run / "results.csv")).splitlines()
    (line,) = [line for line in lines if line.startswith("| 9, 3, 2, 5 |")]
    ratios = {
        row["implementation"]: float(row["times_as_fast_min"])
        for row in rows
        if row["pass"] == "forward+backward"
    }
    _, full, truncated = (cell.strip() for cell in line.strip("|").split("|"))
    assert float(full) == pytest.approx(ratios["full"], abs=0.05 + 0.05 * ratios["full"])
    assert float(truncated) == pytest.approx(ratios["truncated"], rel=0.1, abs=0.06)
    assert f"| geometric mean | {full} | {truncated} |" in lines
    assert not any(line.startswith("Peak memory") for line in lines)  # it was not measured
    with (run / "peaks.csv").open("w") as file:
        writer = csv.DictWriter(file, KEPT)
        writer.writeheader()
        writer.writerows({**row, "peak_states": "2.04"} for row in rows)
    text = speed_table.marked(str(run / "peaks.csv"))
    assert "Peak memory at 9, 3, 2, 5" in text
    assert "nn.RNN 2.0, full 2.0, truncated 2.0." in text
