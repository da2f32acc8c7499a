"""bptt-homework as a user starts it: files, processes with limits, exit codes, forms of output."""

import csv
import io
import json
import os
import re
import signal
from pathlib import Path

import pytest
from commands import Forked, wait_for

from bptt_lab.commands.homework import exercises
from bptt_lab.commands.homework.cli import main
from bptt_lab.commands.homework.exercise import Part, Verdict
from bptt_lab.commands.homework.show import as_csv, table, text

from .answers import ADJOINT, BY_FILE, RIGHT, planted
from .mistakes import ONE, TWO
from .variants import VARIANTS

COMMAND = "bptt_lab.commands.homework.cli:main"


def run(folder, *arguments):
    """Exit code, stdout and stderr."""
    command = Forked(COMMAND, arguments, folder)
    out, err = command.communicate()
    assert wait_for(lambda: not command.processes())
    return command.returncode, out, err


@pytest.mark.slow
def test_new_then_grade_then_right(tmp_path):
    code, out, _ = run(tmp_path, "new", "mine")
    assert code == 0 and "bptt-homework grade mine" in out
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == [*RIGHT, "README.md"]
    code, out, _ = run(tmp_path, "grade", "mine")
    assert code == 1 and out.count("not done yet") == 6 and "Total: 0 of 60 points" in out
    for file, answer in RIGHT.items():
        (tmp_path / "mine" / file).write_text(answer)
    code, out, err = run(tmp_path, "grade", "mine")
    assert (code, err) == (0, "") and "Total: 60 of 60 points. All right." in out
    code, out, _ = run(tmp_path, "grade", "mine/2_adjoint.py", "--json")
    (folder,) = json.loads(out)["folders"]
    assert code == 0 and (folder["points"], folder["of"]) == (10, 10)


HOSTILE = {
    "2_adjoint.py": ADJOINT.replace("    T =", "    print('x' * 10**6)\n    T ="),
    "3_weights.py": "import os\ndef weight_gradients(**a):\n    os._exit(0)\n",
    "4_chunk.py": "def chunk_gradients(**a):\n    return [0] * 10**9\n",
    "5_lag.py": "def lag_gradients(q,\n",
    "6_rtrl.py": "import os\ndef rtrl_step(**a):\n    os.kill(os.getpid(), 11)\n",
}


def test_whatever_the_code_does_the_next_exercise_is_graded(tmp_path):
    for file, code in HOSTILE.items():
        (tmp_path / file).write_text(code)
    code, out, err = run(tmp_path, "grade", ".", "--json", "--seconds", "600")
    assert (code, err) == (1, "")
    by_file = {e["file"]: e for e in json.loads(out)["folders"][0]["exercises"]}
    for file, sentence in {
        "3_weights.py": "ends the process with exit code 0: leave out exit()",
        "4_chunk.py": "raises MemoryError in line 2",
        "6_rtrl.py": "ends the process by SIGSEGV",
    }.items():
        first = by_file[file]["parts"][0]["findings"]
        assert any(sentence in finding for finding in first), (file, first)
        assert by_file[file]["points"] == 0
    problem = "the file raises SyntaxError in line 1: '(' was never closed"
    assert (by_file["5_lag.py"]["status"], by_file["5_lag.py"]["problem"]) == ("failed", problem)
    assert by_file["1_forward.py"]["status"] == "not done"  # there is no such file
    assert by_file["2_adjoint.py"]["points"] == 10


def test_a_loop_without_end(tmp_path):
    (tmp_path / "1_forward.py").write_text("def step(**a):\n    while True: pass\n")
    code, out, _ = run(tmp_path, "grade", "1_forward.py", "--seconds", "1")
    assert code == 1 and "does not return: the time of 1 s is over" in " ".join(out.split())


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("while True: pass", "does not end loading: the time of 1 s is over; does every loop end?"),
        ("import os; os._exit(0)", "ends the process with exit code 0: leave out exit()"),
        ("exit()", "ends the program in line 1: leave out exit()"),
        ("import no_such_module", "raises ModuleNotFoundError in line 1: No module named"),
    ],
)
def test_a_file_that_cannot_be_loaded_says_so_once(code, problem, tmp_path):
    (tmp_path / "1_forward.py").write_text(code)
    seconds = "1" if "while" in code else "600"
    exit_code, out, _ = run(tmp_path, "grade", "1_forward.py", "--seconds", seconds)
    shown = " ".join(out.split())
    assert exit_code == 1 and shown.count(f"the file {problem}") == 1 and "called as" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_an_interrupted_command(number, tmp_path):
    (tmp_path / "1_forward.py").write_text(
        "open('begun', 'w')\nimport time\nwhile True:\n    time.sleep(0.1)\n"
    )
    command = Forked(COMMAND, ("grade", "."), tmp_path)
    wait_for(lambda: (tmp_path / "begun").exists())
    os.kill(command.pid, number)
    _, err = command.communicate()
    assert wait_for(lambda: not command.processes())
    if number == signal.SIGINT:
        assert (command.returncode, err) == (130, "bptt-homework: interrupted\n")


def test_nothing_is_overwritten(tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    assert main(["new", str(mine)]) == 0  # empty is as good as new
    before = {p: p.read_bytes() for p in mine.iterdir()}
    capsys.readouterr()
    assert main(["new", str(mine)]) == 2
    assert capsys.readouterr().err == (
        f"bptt-homework: {mine}: holds files already; give the name of a new folder\n"
    )
    assert {p: p.read_bytes() for p in mine.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["grade", "nowhere"], "nowhere: does not exist; bptt-homework new nowhere writes"),
        (["grade", "other.py"], "other.py: is none of the exercises; they are called 1_forward.py"),
        (["grade", "empty"], "empty: holds none of 1_forward.py, 2_adjoint.py"),
        (["grade", "empty", "--json", "--csv"], "--json: cannot go with --csv"),
        (["grade", "empty", "--seconds", "0"], "--seconds=0: must be at least 1"),
        (["grade", "no/2_adjoint.py"], "no/2_adjoint.py: does not exist; bptt-homework new no "),
        (["new", "a", "b"], "b: means nothing to `new DIR`"),
        (["new", "a", "--json"], "--json: means nothing to `new DIR`"),
        (["new", "other.py"], "other.py: is no folder; give the name of a new folder"),
        (["mark", "empty"], "mark: is neither new nor grade"),
        (["new"], "new: needs a folder; bptt-homework new DIR"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_refused_in_one_line(
    arguments, line, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.py").touch()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"bptt-homework: {line}") and err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "other.py"]


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    tmp_path.chmod(0o500)
    try:
        if not os.access(tmp_path, os.W_OK):
            assert main(["new", str(tmp_path / "mine")]) == 1
            assert "cannot be used (Permission denied)" in capsys.readouterr().err
    finally:
        tmp_path.chmod(0o700)


def verdicts(*points):
    made = []
    for exercise, number in zip(exercises.ALL, points, strict=True):
        right = Part("all", 10, number == 10, not_done=number is None)
        some = [Part("a", number, True), Part("b", 10 - number, False)] if number else [right]
        made.append(Verdict(exercise, some))
    return made


def test_a_class_is_a_table_and_csv(tmp_path):
    results = {"ann": verdicts(10, 4, 10, 10, 10, 10), "=bo": verdicts(None, 0, 7, 10, 10, None)}
    rows = list(csv.reader(io.StringIO(as_csv(results))))
    assert rows[0] == ["folder", *(file.removesuffix(".py") for file in RIGHT), "total"]
    assert rows[1:] == [
        ["ann", "10", "4", "10", "10", "10", "10", "54"],
        ["'=bo", "", "0", "7", "10", "10", "", "27"],
    ]
    lines = table(results).splitlines()
    assert [line.split() for line in lines[2:]] == [
        [entry for entry in row if entry] for row in rows[1:]
    ]
    assert all(len(line) < 80 for line in lines)


def test_options_may_stand_before_the_folders(tmp_path):
    (tmp_path / "2_adjoint.py").write_text(RIGHT["2_adjoint.py"])
    for arguments in (["grade", "--json", "2_adjoint.py"], ["--json", "grade", "2_adjoint.py"]):
        code, out, err = run(tmp_path, *arguments)
        assert (code, err) == (0, "") and json.loads(out)["folders"][0]["points"] == 10


def test_one_of_a_class_who_hands_in_nothing_does_not_stop_the_others(tmp_path):
    for name in ("ann", "bo"):
        (tmp_path / name).mkdir()
    (tmp_path / "ann" / "2_adjoint.py").write_text(RIGHT["2_adjoint.py"])
    (tmp_path / "names.txt").touch()
    code, out, err = run(tmp_path, "grade", "--csv", "ann", "bo", "names.txt")
    assert code == 1 and out.splitlines()[1:] == ["ann,,10,,,,,10", "bo,,,,,,,0"]
    first, second = err.splitlines()
    assert "bo: holds none of" in first and first.endswith("; counts as not done")
    assert "names.txt: is none of" in second and second.endswith("; is left out")
    code, out, err = run(tmp_path, "grade", "bo", "names.txt")
    assert (code, out) == (2, "") and "nor do the others" in err
    assert run(tmp_path, "grade", "ann", "cy")[0] == 2  # a slip of the pen


def test_a_text_is_80_columns_wide_and_shows_no_control_characters():
    finding = "raises ValueError: \x1b[31mred " + "and long " * 30
    part = Part("a part", 10, False, [finding])
    shown = text(Verdict(BY_FILE["2_adjoint.py"], [part], notes=["changes its argument q"]))
    assert "\x1b" not in shown and r"\x1b[31mred" in shown
    assert all(len(line) < 80 for line in shown.splitlines())


def test_the_holes_are_holes_and_the_readme_names_them_all():
    texts = {t.name: t.read_text() for t in exercises.templates()}
    for file, exercise in BY_FILE.items():
        assert "raise NotImplementedError" in texts[file]
        for call in exercise.calls().values():
            assert f"def {call.function}({', '.join(call.arguments)}):" in texts[file]
            for output in call.shapes:
                assert f"{output}" in texts[file]
        assert f"| `{file}` |" in texts["README.md"]


def test_the_answer_that_the_page_shows():
    page = (Path(__file__).parents[2] / "docs" / "homework.md").read_text()
    (block,) = re.findall(r"^```text\n(2_adjoint.*?)^```$", page, re.MULTILINE | re.DOTALL)
    verdict = planted("2_adjoint.py", ("(slope[t + 1] * credit[t + 1])", "credit[t + 1]"))
    assert text(verdict).startswith(block)
    assert "more than a hundred mistakes" in page and len(ONE) + len(TWO) > 100
    (number,) = re.findall(r"grades ([0-9]+) right answers", " ".join(page.split()))
    assert int(number) == len(RIGHT) + len(VARIANTS)
