"""Time a step of sketched_rtrl beside rtrl and snap1, by hidden size and rank, and draw the ratios.

    python scripts/sketch_speed.py           # writes benchmarks/sketch_speed.csv and the picture
    python scripts/sketch_speed.py --draw    # draws docs/pictures/sketch_speed.svg from the file

A step is a chunk of one step, its influence and its gradient: 4 sequences, one input, float32. All
rules take turns, round by round; a ratio is the median over the rounds' own ratios. No rule runs
the package's C core here, so that its instruction set does not matter. Run it on an idle machine;
it takes some minutes.
"""

from __future__ import annotations

import csv
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bptt_lab import VanillaRNN
from bptt_lab.core.machine import cores, processor
from bptt_lab.gradients import RTRL, Chunk, PastFacing, SketchedRTRL, SnAp1
from bptt_lab.training.style import (
    ACROSS,
    GREY,
    SMALL,
    colour,
    logarithmic,
    powers_of_two,
    save,
    shade,
    styled,
)

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "sketch_speed.csv"
PICTURE = ROOT / "docs" / "pictures" / "sketch_speed.svg"
SIZES, RANKS, THREADS = (16, 32, 64, 128, 256), (1, 2, 4, 8, 16, 32), (1, 2)
N, STEPS, WARM, ROUNDS, SECONDS = 4, 40, 5, 15, 20
OTHERS: dict[str, PastFacing] = {"rtrl": RTRL(), "snap1": SnAp1()}


def chunks(hidden_size: int) -> list[Chunk]:
    """Return what happens in a new net, step by step."""
    random = torch.Generator().manual_seed(0)
    rnn = VanillaRNN(1, hidden_size)
    x = torch.randn(STEPS, N, 1, generator=random)
    chunk = SnAp1().observe(rnn, x, torch.zeros(1, N, hidden_size), None)
    return [
        chunk._replace(
            input=chunk.input[t : t + 1],
            states=chunk.states[t : t + 2],
            values=chunk.values[t : t + 1],
            slope=chunk.slope[t : t + 1],
            draw=t,
        )
        for t in range(STEPS)
    ]


def steps(rule: PastFacing, hidden_size: int) -> Iterator[float]:
    """Run a rule over and over the same steps; yield the seconds of each."""
    every, influence = chunks(hidden_size), None
    q = torch.ones(1, N, hidden_size)
    while True:
        for t, chunk in enumerate(every):
            if t == 0:
                influence = None
            begin = time.perf_counter()
            after, kept = rule.advance(chunk, influence)
            rule.gradient(chunk, influence, kept, q)
            spent = time.perf_counter() - begin
            influence = after
            if t >= WARM:
                yield spent


def measure(hidden_size: int) -> dict[str, list[float]]:
    """Return each rule's milliseconds a step, a number a round."""
    rules = OTHERS | {str(r): SketchedRTRL(rank=r) for r in RANKS if r <= hidden_size}
    runs = {name: steps(rule, hidden_size) for name, rule in rules.items()}
    count = {name: max(1, min(20, int(0.04 / next(run)))) for name, run in runs.items()}
    found, begin = defaultdict(list), time.perf_counter()
    for turn in range(ROUNDS):
        for name, run in runs.items():
            found[name].append(1e3 * median(islice(run, count[name])))
        if turn >= 2 and time.perf_counter() - begin > SECONDS:
            break
    return found


def rows() -> Iterator[dict[str, object]]:
    """Measure everything; yield the file's rows."""
    for threads in THREADS:
        torch.set_num_threads(threads)
        for hidden_size in SIZES:
            found = measure(hidden_size)
            for name, times in found.items():
                ratios = {
                    f"to_{other}": median(a / b for a, b in zip(times, found[other], strict=True))
                    for other in OTHERS
                }
                row = {
                    "threads": threads,
                    "hidden_size": hidden_size,
                    "rule": name if name in OTHERS else "sketched_rtrl",
                    "rank": "" if name in OTHERS else name,
                    "ms_median": f"{median(times):.4g}",
                    "ms_min": f"{min(times):.4g}",
                    **{key: f"{ratio:.3g}" for key, ratio in ratios.items()},
                }
                print(*row.values(), flush=True)
                yield row


def draw(axes: Axes, other: str, threads: int) -> None:
    """Draw the ratio to another rule against H, a line a rank."""
    lines: dict[int, list[tuple[int, float]]] = defaultdict(list)
    text = [line for line in MEASURED.read_text().splitlines() if not line.startswith("#")]
    for row in csv.DictReader(text):
        if row["rank"] and int(row["threads"]) == threads:
            point = int(row["hidden_size"]), float(row[f"to_{other}"])
            lines[int(row["rank"])].append(point)
    for index, (rank, points) in enumerate(sorted(lines.items(), reverse=True)):
        tone = shade(colour("sketched_rtrl"), index, len(lines))
        axes.plot(*zip(*points, strict=True), color=tone, marker="o", markersize=4, label=rank)
    axes.axhline(1, color=GREY, linestyle=(0, (4, 2)), linewidth=1.2)
    values = [value for points in lines.values() for _, value in points]
    powers_of_two(axes.xaxis, SIZES)
    logarithmic(axes.yaxis, min(values), max(values))
    axes.set(title=f"in steps of {other}", xlabel="H: units")


@styled
def picture() -> None:
    """Draw both ratios."""
    figure = Figure(figsize=(ACROSS, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw(left, "rtrl", 1)
    draw(right, "snap1", 1)
    left.set_ylabel("time of a step, one thread")
    right.legend(title="rank", fontsize=SMALL, ncols=1, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, PICTURE)


def main() -> None:
    """Measure, unless the picture alone is wanted, and draw."""
    if "--draw" not in sys.argv[1:]:
        every = list(rows())
        with MEASURED.open("w", newline="") as file:
            place = f"{cores()} cores of an {processor()}, torch {torch.__version__}"
            file.write(f"# python scripts/sketch_speed.py, on {place}\n")
            writer = csv.DictWriter(file, every[0])
            writer.writeheader()
            writer.writerows(every)
    picture()


if __name__ == "__main__":
    main()
