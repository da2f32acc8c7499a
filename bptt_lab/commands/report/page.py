"""report.html: one file with everything in it; nothing is loaded, nothing runs.

All that users or their programs wrote, settings and reasons alike, is escaped.
"""

from __future__ import annotations

import base64
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import NamedTuple

from bptt_lab.commands.report import tables
from bptt_lab.commands.report.canvas import Picture
from bptt_lab.commands.report.look import CSS
from bptt_lab.commands.report.palette import Look
from bptt_lab.commands.report.scores import Standing
from bptt_lab.commands.report.tables import number, spread
from bptt_lab.commands.report.tidy import Setting, Sweep
from bptt_lab.runs import locate

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)_(\d\d)-(\d\d)-(\d\d)")
Looks = Mapping[Setting, Look]


class Section(NamedTuple):
    """A heading, what one must know to read what is below it, and pictures."""

    title: str
    text: str
    pictures: Sequence[Picture]


def render(
    sweep: Sweep, standings: Sequence[Standing], sections: Sequence[Section], looks: Looks
) -> str:
    """Return the page."""
    title = _title(sweep)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_what(sweep))}</p>',
        f"<p>{_counts(sweep)}</p>",
        '<div class="headline">',
        *(f"<p>{escape(_headline(standing))}</p>" for standing in standings),
        "</div>",
        *_tables(standings, looks),
        *(part for section in sections if section.pictures for part in _section(section)),
        *_unfinished(sweep),
        *_how(sweep, standings),
    ]
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
    )
    return head + "\n".join(body) + "\n</body>\n</html>\n"


def _title(sweep: Sweep) -> str:
    keys = [key for key in sweep.keys if key != "dataset"]
    what = f"Sweep over {', '.join(keys) or 'seeds'}"
    datasets = [name for name in sweep.datasets if name]
    return f"{what} on {', '.join(datasets)}" if datasets else what


def _what(sweep: Sweep) -> str:
    seeds = len({job.seed for job in sweep.jobs if job.seed is not None})
    groups = sum(len(sweep.groups(dataset)) for dataset in sweep.datasets)
    counts = ", ".join(
        f"{n} {word}{'' if n == 1 else 's'}"
        for n, word in ((len(sweep.jobs), "job"), (groups, "setting"), (seeds, "seed"))
    )
    return f"{counts} · started {_when(sweep)} · {sweep.folder.resolve().name}"


def _when(sweep: Sweep) -> str:
    """Return when the sweep began: its folder's name says, or its first paper's date."""
    if stamp := _STAMP.search(sweep.folder.resolve().name):
        day, *clock = stamp.groups()
        return f"{day} {':'.join(clock[:2])}"
    return datetime.fromtimestamp(sweep.began).strftime("%Y-%m-%d %H:%M")


def _counts(sweep: Sweep) -> str:
    counts = Counter(job.run.status for job in sweep.jobs)
    return " ".join(
        f'<span class="badge {escape(status)}">{n} {escape(status)}</span>'
        for status, n in counts.most_common()
    )


def _headline(standing: Standing) -> str:
    """Say in a sentence what is best, how sure that is, and beside what."""
    name = f"{standing.dataset}: " if standing.dataset else ""
    best = standing.scores[0]
    if best.metric is None:
        return f"{name}no job has completed yet."
    mean, sd = best.metric
    metric = standing.metric.replace("_", " ")
    if not math.isfinite(mean):
        return f"{name}no setting has a finite test {metric} yet."
    seeds = f"over {best.completed} seeds" if best.completed > 1 else "with one seed"
    text = f"{name}best is {best.group.label}, test {metric} {spread(mean, sd)} {seeds}"
    for reference, level in best.references[:1]:
        text += f"; {reference} {number(level)}"
    near = [
        score.group.label
        for score in standing.scores
        if score is not best and score.metric and abs(score.metric[0] - mean) <= (sd or 0)
    ]
    if not near:
        return text + "."
    shown = "; ".join(near) if len(near) <= 3 else f"{len(near)} other settings"
    return f"{text}. Within one standard deviation of it: {shown}."


def _tables(standings: Sequence[Standing], looks: Looks) -> Iterator[str]:
    yield "<h2>Settings, best first</h2>"
    yield (
        '<p class="soft small">Mean ± standard deviation over the seeds that completed, on the '
        "test split. In italics what a trivial predictor, or a known floor, reaches. Time is that "
        "of training.</p>"
    )
    for standing in standings:
        if len(standings) > 1:
            yield f"<h3>{escape(standing.dataset)}</h3>"
        yield from tables.settings(standing, looks)


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{escape(section.title)}</h2>"
    yield f'<p class="soft small">{escape(section.text)}</p>'
    yield '<div class="panels">'
    for picture in section.pictures:
        data = base64.b64encode(picture.path.read_bytes()).decode()
        yield f'<figure><img alt="{escape(picture.alt)}" src="data:image/png;base64,{data}">'
        if picture.caption:
            yield f"<figcaption>{escape(picture.caption)}</figcaption>"
        yield "</figure>"
    yield "</div>"


def _unfinished(sweep: Sweep) -> Iterator[str]:
    if all(job.run.status == "completed" for job in sweep.jobs):
        return
    yield "<h2>What did not complete, and why</h2>"
    yield from tables.unfinished(sweep.jobs)


def _how(sweep: Sweep, standings: Sequence[Standing]) -> Iterator[str]:
    """Say how to open, repeat, continue and check all this."""
    folder = shlex.quote(locate.shown(sweep.folder))
    left = any(job.run.status != "completed" for job in sweep.jobs)
    yield "<h2>Look closer, and do it again</h2>"
    for text, command in (
        ("Every scalar, histogram and mean over seeds in TensorBoard:", f"bptt-board {folder}"),
        ("The same sweep:", sweep.command),
        ("Continue what is not complete:", f"bptt-train -m resume={folder}" if left else ""),
        ("This page again:", f"bptt-report {folder}"),
        *_best_commands(standings),
    ):
        if command:
            yield f'<p class="small">{escape(text)}</p><pre>{escape(command)}</pre>'
    yield '<p class="small">A row a job in <a href="results.csv">results.csv</a>, the pictures in '
    yield "report/.</p>"
    yield from _machine(sweep)


def _best_commands(standings: Sequence[Standing]) -> Iterator[tuple[str, str]]:
    for standing in standings:
        done = [job for score in standing.scores for job in score.group.jobs if score.completed]
        command = next((c for job in done if (c := job.run.manifest.get("command"))), "")
        name = f" on {standing.dataset}" if len(standings) > 1 else ""
        yield f"The first job of the best setting{name} by itself:", str(command)


def _machine(sweep: Sweep) -> Iterator[str]:
    manifest = next((job.run.manifest for job in sweep.jobs if job.run.manifest), {})
    facts = {key: manifest.get(key) for key in ("processor", "device", "threads", "kernel")}
    versions = manifest.get("versions")
    if isinstance(versions, Mapping):
        facts["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    facts["commit"] = manifest.get("git_commit")
    shown = {key: fact for key, fact in facts.items() if fact is not None}
    if shown:
        yield '<dl class="small">'
        for key, fact in shown.items():
            yield f"<dt>{escape(key)}</dt><dd>{escape(str(fact))}</dd>"
        yield "</dl>"
