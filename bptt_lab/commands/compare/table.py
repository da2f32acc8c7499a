"""The comparison on screen: a line for each strategy as it comes, numbers under their heads."""

import math
from collections.abc import Callable, Mapping

from bptt_lab.commands.compare.measurement import Comparison, Measurement, Plan, about
from bptt_lab.commands.timing import UNSTEADY
from bptt_lab.core.messages import columns

LEGEND = """\
cosine, norm ratio, rel. error   of the gradient of all the network's parameters, against full
                                 BPTT's on the same batch; a random strategy's are means of draws
bias, variance, snr              of a random strategy over its draws: relative error of the mean,
                                 variance over |full|^2, signal-to-noise ratio of powers
ms, x full, middle half          forward and backward pass by the clock, median of rounds; median
                                 and quartiles of its ratio to full BPTT's in the same round
peak MB                          memory of both passes above network and batch"""


def _short(value: float) -> str:
    """Three digits, in the plain form where that is readable."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.1e}" if abs(value) < 1e-3 or abs(value) >= 1e4 else f"{value:.3g}"


# The columns by their heads: the least width, and what it says of a row.
COLUMNS: Mapping[str, tuple[int, Callable[[Measurement], str]]] = {
    "strategy": (8, lambda row: row.option.label),
    "k": (4, lambda row: "" if row.option.k is None else str(row.option.k)),
    "claims": (8, lambda row: row.claims),
    "cosine": (7, lambda row: f"{row.aligned.cosine.value:.4f}"),
    "norm ratio": (10, lambda row: f"{row.aligned.norm_ratio.value:.4f}"),
    "rel. error": (10, lambda row: _short(row.aligned.relative_error.value)),
    "bias": (17, lambda row: " ± ".join(map(_short, row.aligned.bias)) if row.draws else ""),
    "variance": (8, lambda row: _short(row.aligned.variance.value) if row.draws else ""),
    "snr": (7, lambda row: _short(row.aligned.snr.value) if row.draws else ""),
    "ms": (8, lambda row: f"{row.seconds * 1e3:.2f}"),
    "x full": (7, lambda row: f"{row.times_full:.2f}"),
    "middle half": (15, lambda row: " to ".join(f"{ratio:.3g}" for ratio in row.quartiles)),
    "peak MB": (7, lambda row: "" if row.peak is None else f"{row.peak / 1e6:.1f}"),
}


def cells(row: Measurement) -> list[str]:
    """Write a strategy's row."""
    return [said(row) for _, said in COLUMNS.values()]


def announced(plan: Plan) -> str:
    """Say what the comparison will take, and what it leaves out, on a line each."""
    rows = sum(each.shown for each in plan.candidates)
    seconds = about(sum(each.seconds for each in plan.candidates))
    lines = [f"estimate: {seconds} for {rows} rows", *_left_out(plan.left_out)]
    return "\n".join(lines) + "\n"


def layout(plan: Plan) -> str:
    """Return the format of the rows."""
    longest = max((len(each.option.label) for each in plan.candidates), default=0)
    _, *widths = (width for width, _ in COLUMNS.values())
    return columns(
        [[*COLUMNS], ["-" * width for width in (longest, *widths)]], right=[*COLUMNS][3:]
    )


def closing(comparison: Comparison) -> str:
    """Explain the table, and add what it does not hold."""
    lines = ["", LEGEND] if comparison.strategies else []
    if comparison.unsteady > UNSTEADY:
        slower = f"full BPTT usually took {comparison.unsteady:.1f} times its best"
        lines += ["", f"warning: {slower}; other processes disturb the times, repeat when idle"]
    if comparison.alike.sentences:
        lines += ["", *comparison.alike.sentences]
    if comparison.left_out:
        lines += ["", *_left_out(comparison.left_out)]
    return "\n".join(lines)


def _left_out(why: Mapping[str, str]) -> list[str]:
    return ["not compared:"] * bool(why) + [f"  {name}: {each}" for name, each in why.items()]
