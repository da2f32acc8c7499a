"""Every lesson of the site, run as a notebook: no cell fails or warns, and it has a picture.

What a lesson claims it asserts itself, so a lesson whose claim is false fails here.
"""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "docs" / "lessons").glob("*.py"))
execute = runpy.run_path(str(ROOT / "scripts" / "site" / "execute.py"))["execute"]
SLOW = "#   slow: true"  # in the header of a lesson that takes more than some 15 s of a processor


def marks(lesson: Path) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if SLOW in lesson.read_text(encoding="utf-8").splitlines() else []


@pytest.mark.parametrize(
    "lesson", [pytest.param(path, id=path.stem, marks=marks(path)) for path in LESSONS]
)
def test_a_lesson_runs_without_a_warning_and_shows_a_picture(lesson: Path) -> None:
    notebook = execute(lesson)
    assert notebook.metadata.kernelspec.name == "python3"
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", [])]
    assert [each.text for each in outputs if each.get("name") == "stderr"] == []
    draw = [cell for cell in notebook.cells if "'image/" in str(cell.get("outputs", []))]
    assert draw
    for cell in draw:  # its code is folded
        assert cell.metadata.get("tags") == ["draws"], cell.source


def test_there_are_lessons() -> None:
    assert LESSONS
