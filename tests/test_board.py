"""`bptt-board`: TensorBoard for this machine only, gone at Ctrl-C."""

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from bptt_lab.commands import board


def test_it_is_told_to_listen_on_localhost_only(tmp_path: Path) -> None:
    command = board.board_command([str(tmp_path), "--port", "7007"])
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
