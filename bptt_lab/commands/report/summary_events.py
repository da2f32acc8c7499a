"""TensorBoard's `_summary`: a run a setting, with mean and standard deviation over its seeds."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from bptt_lab.commands.report import results
from bptt_lab.commands.report.results import DRAWN, VAL_LOSS, Group, SweepResults
from bptt_lab.commands.report.scores import Ranking
from bptt_lab.config import output_paths

FOLDER = "_summary"
NAMES = ("mean", "mean_minus_sd", "mean_plus_sd", "sd")


def write(sweep: SweepResults, rankings: Sequence[Ranking]) -> None:
    """Write SWEEP/_summary/<setting>/ anew, its earlier files gone.

    Tags are mean/<tag> and, at steps that several seeds have, sd/<tag>, mean_minus_sd/<tag> and
    mean_plus_sd/<tag>; the custom scalars draw them as a band. Event times are the sweep's.
    """
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(sweep.folder / FOLDER, ignore_errors=True)
    if not sweep.has_means:
        return  # no means to show: each run's own curves say all
    for ranking in rankings:
        tags = dict.fromkeys((VAL_LOSS, f"val/{ranking.metric}", *DRAWN))
        for group in ranking.groups:
            found = {
                tag: results.band(job.curves.get(tag, {}) for job in group.jobs) for tag in tags
            }
            bands = {tag: band for tag, band in found.items() if band}
            if not bands:
                continue
            folder = _numbered(place(sweep.folder, ranking, group))
            with SummaryWriter(str(folder)) as writer:
                for tag, band in bands.items():
                    for b in band:
                        values = [b.mean]
                        if b.sd is not None:
                            values += [b.mean - b.sd, b.mean + b.sd, b.sd]
                        for name, value in zip(NAMES, values, strict=False):
                            writer.add_scalar(f"{name}/{tag}", value, b.step, walltime=sweep.began)
                drawn = {tag: ["Margin", [f"{name}/{tag}" for name in NAMES[:3]]] for tag in bands}
                writer.add_custom_scalars({"over seeds": drawn})


def place(sweep: Path, ranking: Ranking, group: Group) -> Path:
    """Return where a setting's means are written."""
    text = f"{ranking.dataset}_{group.label}"
    return sweep / FOLDER / output_paths.name(text.replace(", ", "_"))


def _numbered(path: Path) -> Path:
    """Number what is not the first of its name."""
    taken = len(list(path.parent.glob(f"{path.name}*"))) if path.exists() else 0
    return path.with_name(f"{path.name}~{taken}") if taken else path
