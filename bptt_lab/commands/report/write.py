"""Read a sweep once, and write everything that the report consists of."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from bptt_lab.commands.report import page, panels, results, scores, summary_events
from bptt_lab.commands.report.page import Section
from bptt_lab.commands.report.panel import Picture, Styles, line_styles
from bptt_lab.commands.report.results import ALIGNMENT, GRADIENT_NORM, VAL_LOSS, SweepResults
from bptt_lab.commands.report.scores import Ranking
from bptt_lab.commands.report.settings import SEED
from bptt_lab.config import output_paths
from bptt_lab.core.messages import cell
from bptt_lab.runs import files
from bptt_lab.runs import sweep as sweeps

# What a section shows, and what else of several seeds.
CURVES = (
    "Dashed: what a trivial predictor, or a known floor, reaches.",
    "Mean over the seeds; where fewer seeds got that far, over those. Of five settings or fewer "
    "with a band of one standard deviation to either side.",
)
NORMS = (
    "Norm of the whole gradient before clipping, mean over each window of steps.",
    "Geometric mean over the seeds; of five settings or fewer with a band of one standard "
    "deviation of its logarithm.",
)
ALIGNED = (
    "Cosine with full BPTT's gradient on a fixed chunk; exact strategies have 1 and are left out.",
    "Mean over the seeds; of five settings or fewer with a band of one standard deviation.",
)
KEYS = "Every run that completed is a dot.", "Lines and bars are means over seeds."
TARGET = (
    "Until the validation loss first is at the target, {}. Seconds are steps at a run's mean pace.",
    "Every seed is a dot, the bar their mean.",
)
ONE, ONCE = "One seed a setting.", " What was evaluated once is a marker without a line."
GIVEN = "given on the command line"
CHOSEN = "one that about half of the settings reach with all their seeds, chance's at most"
# Columns of results.csv around the swept keys' and the metrics'.
BEFORE = ("seed", "status", "reason")
AFTER = ("seconds", "steps", "epochs", "parameters_sha256")
Draw = Callable[[Ranking, Styles, Path], Picture | None]


def write_report(sweep_dir: Path, target_loss: float | None) -> Path:
    """Do what `bptt_lab.commands.report.write_report` promises."""
    sweep = results.read(sweep_dir)
    path, pictures = sweep_dir / "report.html", sweep_dir / "report"
    files.refuse_strange(sweep_dir, path, *pictures.glob("*.png"))
    rankings = [scores.rank(sweep, dataset, target_loss) for dataset in sweep.datasets]
    styles = line_styles(sweep.keys, {job.values: job.strategy for job in sweep.jobs})
    write_csv(sweep, sweep_dir / "results.csv")
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    which = CHOSEN if target_loss is None else GIVEN
    sections = [*_sections(sweep, rankings, styles, pictures, which)]
    part = path.with_name(".report.html.part")  # someone may be looking at the page
    with files.writing(part, "anew") as file:
        file.write(page.render(sweep, rankings, sections, styles).encode())
    os.replace(part, path)
    summary_events.write(sweep, rankings)
    return path


def write_csv(sweep: SweepResults, path: Path) -> None:
    """Write a row a job: folder, keys that jobs differ in, seed, status, metrics and the rest.

    What a job does not have is empty. Metrics keep all their digits.
    """
    tags = sorted({tag for job in sweep.jobs for tag in job.metrics})
    with io.TextIOWrapper(files.writing(path, "anew"), "utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        typed = [sweeps.settings_of(job.run.overrides) for job in sweep.jobs]
        more = [key for key in sweeps.differing(typed) if key not in (*sweep.keys, SEED)]
        rows.writerow(map(cell, ["folder", *sweep.keys, *more, *BEFORE, *tags, *AFTER]))
        for job, lines in zip(sweep.jobs, typed, strict=True):
            run, metrics = job.run, job.run.metrics
            values = *job.values, job.seed
            *shown, seed = [repr(v) if isinstance(v, float) else results.show(v) for v in values]
            row = [run.folder.name, *shown, *(lines.get(key, "") for key in more), seed]
            row += [run.status, run.reason]
            row += [repr(float(metrics[tag])) if tag in metrics else "" for tag in tags]
            last = (getattr(run, name) for name in AFTER)
            row += ["" if value is None else str(value) for value in last]
            rows.writerow(map(cell, row))


def _sections(
    sweep: SweepResults, rankings: Sequence[Ranking], styles: Styles, folder: Path, which: str
) -> Iterator[Section]:
    """Draw the pictures of each section, a dataset each, where there is something to draw."""

    def over(tag: str) -> Draw:
        return partial(panels.over_training, tag)

    curves: Mapping[str, Draw] = {"val_loss": over(VAL_LOSS), "val_metric": panels.own_metric}
    keys = {
        f"test_against_{key}": partial(panels.against, sweep.keys, key)
        for key in sweep.keys
        if key != "dataset"
    }
    times = {f"{unit}_to_target": partial(panels.to_target, unit) for unit in panels.UNITS}
    sections: Sequence[tuple[str, tuple[str, str], Mapping[str, Draw]]] = (
        ("Learning curves", CURVES, curves),
        ("Test metric against each swept key", KEYS, keys),
        ("Gradient norm over training", NORMS, {"gradient_norm": over(GRADIENT_NORM)}),
        ("Alignment with full BPTT over training", ALIGNED, {"alignment": over(ALIGNMENT)}),
        ("Time to a target loss", TARGET, times),
    )
    once = any(len(job.curves.get(VAL_LOSS, ())) == 1 for job in sweep.jobs)
    for title, (what, several), drawn in sections:
        text = f"{several if sweep.has_means else ONE} {what.format(which)}"
        text += ONCE * (once and drawn is curves)
        pictures = []
        for name, draw in drawn.items():
            for number, ranking in enumerate(rankings):
                file = output_paths.name(name, *([number, ranking.dataset] if rankings[1:] else []))
                pictures.append(draw(ranking, styles, folder / f"{file}.png"))
        yield title, text, [picture for picture in pictures if picture is not None]
