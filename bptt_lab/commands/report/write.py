"""Read a sweep once, and write everything that the report consists of."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bptt_lab.commands.report import (
    keys,
    page,
    palette,
    panels,
    scores,
    summary_events,
    table,
    tidy,
)
from bptt_lab.commands.report.canvas import Picture
from bptt_lab.commands.report.page import Looks, Section
from bptt_lab.commands.report.scores import Standing
from bptt_lab.commands.report.tidy import Sweep
from bptt_lab.config import output_paths

CURVES = (
    "Mean over the seeds, with a band of one standard deviation to either side; where fewer seeds "
    "got that far, over those. Dashed: what a trivial predictor, or a known floor, reaches."
)
NORMS = (
    "Norm of the whole gradient before clipping, mean over each window of steps; geometric mean "
    "over the seeds, with a band of one standard deviation of its logarithm."
)
ALIGNED = (
    "Cosine of the training strategy's gradient with full BPTT's on a fixed chunk, mean over the "
    "seeds with a band of one standard deviation; exact strategies have 1 and are left out."
)
KEYS = "Every seed that completed is a dot; lines and bars are means over seeds."
TARGET = (
    "Until the validation loss first is at the target, {which}. Every seed is a dot, the bar their "
    "mean; seconds are steps at the run's own mean pace."
)


def write_report(sweep_dir: Path, target_loss: float | None) -> Path:
    """Do what `bptt_lab.commands.report.write_report` promises."""
    sweep = tidy.read(sweep_dir)
    standings = [scores.stand(sweep, dataset, target_loss) for dataset in sweep.datasets]
    looks = palette.looks(sweep.keys, {job.setting: job.strategy for job in sweep.jobs})
    table.write(sweep, sweep_dir / "results.csv")
    pictures = sweep_dir / "report"
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    sections = _sections(sweep, standings, looks, pictures, target_loss is not None)
    path = sweep_dir / "report.html"
    part = path.with_name(".report.html.part")  # someone may be looking at the page
    part.write_text(page.render(sweep, standings, sections, looks), encoding="utf-8")
    os.replace(part, path)
    summary_events.write(sweep, standings)
    return path


def _sections(
    sweep: Sweep, standings: Sequence[Standing], looks: Looks, folder: Path, given: bool
) -> list[Section]:
    def each(name: str, draw: Callable[[Standing, Path], Picture | None]) -> list[Picture]:
        drawn = []
        for number, standing in enumerate(standings):
            file = output_paths.name(name, *([number, standing.dataset] if standings[1:] else []))
            drawn.append(draw(standing, folder / f"{file}.png"))
        return [picture for picture in drawn if picture is not None]

    curves = [
        *each("val_loss", lambda s, path: panels.learning_curve(s, scores.LOSS, looks, path)),
        *each(
            "val_metric",
            lambda s, path: (
                panels.learning_curve(s, s.metric, looks, path) if s.metric != scores.LOSS else None
            ),
        ),
    ]
    against = [
        picture
        for key in sweep.keys
        if key != "dataset"
        for picture in each(f"test_against_{key}", partial(_against, sweep.keys, key, looks))
    ]
    which = (
        "given on the command line"
        if given
        else "one that about half of the settings reach with all their seeds, chance's at most"
    )
    return [
        Section("Learning curves", CURVES, curves),
        Section("Test metric against each swept key", KEYS, against),
        Section(
            "Gradient norm over training",
            NORMS,
            each("gradient_norm", lambda s, path: panels.gradient_norms(s, looks, path)),
        ),
        Section(
            "Alignment with full BPTT over training",
            ALIGNED,
            each("alignment", lambda s, path: panels.alignment(s, looks, path)),
        ),
        Section(
            "Time to a target loss",
            TARGET.format(which=which),
            [
                *each("steps_to_target", lambda s, path: panels.arrivals(s, 0, looks, path)),
                *each("seconds_to_target", lambda s, path: panels.arrivals(s, 1, looks, path)),
            ],
        ),
    ]


def _against(
    swept: Sequence[str], key: str, looks: Looks, standing: Standing, path: Path
) -> Picture | None:
    return keys.against(standing, swept, key, looks, path)
