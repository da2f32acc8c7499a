"""`bptt-board`: TensorBoard for this machine only, gone at Ctrl-C."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from report.sweep_folders import write_sweep

from bptt_lab.commands import board
from bptt_lab.commands.report import write_report


def test_it_is_told_to_listen_on_localhost_only(tmp_path: Path) -> None:
    command = board.board_command(tmp_path, 7007)
    assert command[:3] == [sys.executable, "-m", "tensorboard.main"]
    assert command[3:] == [
        *("--logdir", str(tmp_path), "--host", "127.0.0.1", "--port", "7007"),
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "no such folder"),
        ([".", "--port", "0"], "must be at least 1"),
        ([".", "--port", "x"], "must be an integer"),
        ([".", "--bind_all"], "unrecognized arguments"),
    ],
)
def test_what_cannot_work_is_refused_on_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert board.main(arguments) == 2
    assert (err := capsys.readouterr().err).count("\n") == 1
    assert says in err


def chosen(folder: Path) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The runs and the tags that TensorBoard is asked to begin with."""
    query = parse_qs(urlsplit(board.first_look(folder)).query)
    return re.compile(query.get("runFilter", [""])[0]), re.compile(query["tagFilter"][0])


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_of_a_sweep_the_best_five_settings_are_shown(tmp_path: Path, seeds: int) -> None:
    jobs = [
        {"gradient": "truncated", "k": k, "seed": seed, "final": k / 100}
        for k in range(1, 19)
        for seed in range(seeds)
    ]
    folder = write_sweep(tmp_path / "sweep", jobs)
    write_report(folder)
    runs, tags = chosen(folder)
    events = [path.parent.relative_to(folder) for path in folder.glob("_summary/*/events*")]
    known = [str(path) for path in events] + [path.name for path in folder.glob("0*")]
    shown = {name for name in known if runs.search(name)}
    best = range(14, 19)
    if seeds == 2:
        assert shown == {f"_summary/digits_k={k}" for k in best}
    else:
        assert {int(name[:3]) + 1 for name in shown} == set(best)
    logged = [f"{m}{tag}" for m in ("", "mean/", "sd/") for tag in (*board.TAGS[1:], "val/loss")]
    assert [tag for tag in logged if tags.search(tag)] == logged[: 2 * len(board.TAGS)]
    assert not tags.search("credit_log10_at_lag/001") and not tags.search("mean_minus_sd/val/loss")


def test_of_two_datasets_each_has_its_turn_and_a_small_sweep_is_shown_whole(
    tmp_path: Path,
) -> None:
    jobs = [
        {"dataset": name, "lr": lr, "final": lr}
        for name in ("digits", "mackey_glass")
        for lr in (0.1, 0.2, 0.3, 0.4)
    ]
    folder = write_sweep(tmp_path / "sweep", jobs)
    assert [name[:3] for name in board.first_runs(folder)] == ["003", "004", "002", "005", "001"]
    assert board.first_runs(write_sweep(tmp_path / "small", jobs[:3])) == []
    assert board.first_runs(tmp_path) == []


def test_the_first_free_port_is_taken() -> None:
    port = board.free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert board.free_port() > port


def test_it_serves_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("bptt-board"), tmp_path, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell's
    )
    try:
        page = b""
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    page = answer.read()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.2)
        assert b"TensorBoard" in page
        # Other addresses of this machine are closed: 127.0.0.2 is one.
        with socket.socket() as other:
            assert other.connect_ex(("127.0.0.2", port)) != 0
        process.send_signal(signal.SIGINT)
        process.wait(600)
    finally:
        process.kill()
        process.wait()
