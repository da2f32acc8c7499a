"""Verdicts as text, as a table of a class, as JSON and as CSV."""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bptt_lab.commands.homework.exercise import WORTH, Part, Verdict
from bptt_lab.core.messages import cell, columns, escaped, headed

WIDTH = 79
INDENT = 13
Results = Mapping[Path, Sequence[Verdict]]


def text(verdict: Verdict) -> str:
    """What a student reads about an exercise."""
    name = f"{verdict.exercise.file}, {verdict.exercise.title}"
    points = f"{verdict.points} of {WORTH} points"
    lines = [f"{name}{points:>{max(WIDTH - len(name), len(points) + 2)}}"]
    if verdict.problem:
        lines += _wrapped(verdict.problem)
    elif verdict.status == "not done":
        lines += _wrapped("not done yet")
    elif verdict.status == "right":
        lines += _wrapped("all right")
    else:
        for part in verdict.parts:
            lines += _part(part)
    if verdict.status in ("wrong", "failed"):
        lines += _wrapped(f"Read: {verdict.exercise.see}.")
    for note in verdict.notes:
        lines += _wrapped(f"Note: it {note}.")
    return "\n".join(lines) + "\n"


def _part(part: Part) -> list[str]:
    mark = "not yet" if part.not_done else "right" if part.right else "wrong"
    got = part.worth if part.right else 0
    above = not (part.right or part.not_done or part.findings)
    lines = [f"  {mark:<7} {got}/{part.worth} {part.name}{', see above' if above else ''}"]
    for finding in part.findings:
        lines += _wrapped(finding)
    return lines


def _wrapped(sentence: str) -> list[str]:
    pad = " " * INDENT
    wrapped = textwrap.wrap(escaped(sentence), WIDTH - INDENT, break_on_hyphens=False)
    return [pad + line for line in wrapped]


def total(verdicts: Sequence[Verdict]) -> str:
    """The sum of a folder, and what to do next."""
    points = f"{_points(verdicts)} of {WORTH * len(verdicts)} points"
    first = next((v for v in verdicts if v.status != "right"), None)
    if first is None:
        return f"Total: {points}. All right."
    return f"Total: {points}. Next: {first.exercise.file} ({first.status})."


def _points(verdicts: Sequence[Verdict]) -> int:
    return sum(verdict.points for verdict in verdicts)


def _rows(results: Results) -> list[list[str]]:
    """The heads, then a row a folder: points by exercise, and their sum."""
    files = sorted({v.exercise.file for verdicts in results.values() for v in verdicts})
    rows = [["folder", *(file.removesuffix(".py") for file in files), "total"]]
    for path, verdicts in results.items():
        by_file = {v.exercise.file: v for v in verdicts}
        points = [_short(by_file[file]) if file in by_file else "" for file in files]
        rows.append([str(path), *points, str(_points(verdicts))])
    return rows


def _short(verdict: Verdict) -> str:
    return "" if verdict.status == "not done" else str(verdict.points)


def table(results: Results) -> str:
    """What a teacher reads about a class; no number where an exercise is not done yet."""
    rows = [[cell(entry) for entry in row] for row in _rows(results)]
    layout = columns(rows, rows[0][1:])
    lines = [headed(layout, rows[0]), *(layout.format(*row).rstrip() for row in rows[1:])]
    return "\n".join(lines)


def as_csv(results: Results) -> str:
    """The same table as comma-separated values."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[cell(e) for e in r] for r in _rows(results)])
    return out.getvalue()


def as_json(results: Results) -> dict[str, Any]:
    """Everything, as plain containers; docs/homework.md names the keys."""
    return {
        "folders": [
            {
                "path": str(path),
                "points": _points(verdicts),
                "of": WORTH * len(verdicts),
                "exercises": [
                    {
                        "file": verdict.exercise.file,
                        "status": verdict.status,
                        "points": verdict.points,
                        "of": WORTH,
                        "problem": verdict.problem,
                        "notes": list(verdict.notes),
                        "parts": [
                            {
                                "name": part.name,
                                "points": part.worth if part.right else 0,
                                "of": part.worth,
                                "right": part.right,
                                "done": not part.not_done,
                                "findings": list(part.findings),
                            }
                            for part in verdict.parts
                        ],
                    }
                    for verdict in verdicts
                ],
            }
            for path, verdicts in results.items()
        ]
    }
