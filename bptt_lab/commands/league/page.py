"""league.html: one file with everything in it, on the frame that bptt-report's page has."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bptt_lab import runs
from bptt_lab.commands.league import words
from bptt_lab.commands.league.comparison import Comparison
from bptt_lab.commands.league.cost import Costs
from bptt_lab.commands.league.statistics import quartiles
from bptt_lab.commands.league.streams import SHARE, Rule, Stream
from bptt_lab.commands.league.words import number
from bptt_lab.commands.report.page import standing, template
from bptt_lab.commands.report.panel import Picture, Styles
from bptt_lab.commands.report.results import SweepResults
from bptt_lab.commands.timing import UNSTEADY

METHOD = (
    f"Error: the mean of train/loss over the last {SHARE:.0%} of a run's steps, or the last record "
    "where none is in them. Each step is predicted before it is learnt from. Of a series that its "
    "task scales to variance 1, the squared error is the normalised one.",
    "Alignment: the cosine of the rule's gradient with the exact one, which RTRL would have found "
    "along the same steps and weights; mean over training, of runs that completed. Two rules are "
    "measured each along its own way.",
    "Significance: Wilcoxon's signed-rank test over the seeds that both rules have, two-sided and "
    "exact, of the logarithm of the ratio of errors or the difference of alignments. Holm's "
    "correction holds the chance of any wrong claim below 5 % for all pairs of a stream and a "
    "quantity. Streams are families of their own.",
    "Effect: the Hodges-Lehmann median of ratios or differences, with the exact interval that goes "
    "with the test. Intervals are each for itself, without Holm's correction.",
    "A run that diverged counts as worse than any that did not; two that diverged are equal. Runs "
    "that failed or are not complete are left out, with the pairs of their seed.",
    "Kendall's tau describes these rules, by the medians of their seeds. A handful of rules, some "
    "of them akin, is no sample of all rules.",
    "Not decided does not mean equal. Another task, size, optimizer or learning rate may turn the "
    "order around.",
)


def table(
    stream: Stream, comparison: Comparison, costs: Costs
) -> tuple[list[str], int, list[list[str]]]:
    """Return the heads behind the rule's name, how many are of numbers, and a row a rule.

    Columns that would be empty are left out.
    """
    ranks = stream.mean_ranks()
    rows = []
    for rule in stream.rules:
        at = stream.name, rule.name
        below, above = (", ".join(names) for names in comparison.beside(rule))
        rows.append(
            {
                "seeds": words.counted(rule),
                f"{stream.error}, median": number(rule.error),
                "middle half": _middle_half(rule),
                "alignment": "" if rule.alignment is None else f"{rule.alignment:.3f}",
                "ms a step (least)": _ms(costs, at),
                "mean rank": f"{ranks[rule.name]:.1f}" if rule.name in ranks else "",
                "better than": below,
                "worse than": above,
            }
        )
    heads = [head for head in rows[0] if any(row[head] for row in rows)]
    numbers = sum(not head.endswith(" than") for head in heads)
    return heads, numbers, [[row[head] for head in heads] for row in rows]


def render(
    sweep: SweepResults,
    streams: Sequence[Stream],
    compared: Mapping[str, Sequence[Comparison]],
    costs: Costs,
    picture: Picture,
    styles: Styles,
) -> str:
    """Return the page; `compared` has a stream's comparisons by its name, that of errors first."""
    rules = len({rule.name for stream in streams for rule in stream.rules})
    seeds = {seed for stream in streams for rule in stream.rules for seed in rule.entries}
    names = {rule.name: rule for stream in streams for rule in stream.rules}
    folder = shlex.quote(runs.shown(sweep.folder))
    return template("league.html", Path(__file__).parent).render(
        title=f"League of {rules} rules" if rules > 1 else f"One rule: {next(iter(names))}",
        summary=f"{'; '.join(s.name for s in streams)} · {words.count(len(seeds), 'seed')} · "
        f"{sweep.folder.resolve().name}",
        sections=[_section(stream, compared[stream.name], costs, styles) for stream in streams],
        picture=picture,
        method=[*METHOD, *_cost(costs)],
        commands=[
            pair
            for pair in (
                ("The same sweep:", sweep.command),
                ("This page again:", f"bptt-league {folder}"),
                ("Its learning curves:", f"bptt-report {folder}"),
            )
            if pair[1]
        ],
        **standing(sweep),
    )


def _section(
    stream: Stream, compared: Sequence[Comparison], costs: Costs, styles: Styles
) -> dict[str, Any]:
    heads, numbers, rows = table(stream, compared[0], costs)
    colours = [styles[rule.values].colour for rule in stream.rules]
    names = [rule.name for rule in stream.rules]
    parts = [
        {
            "title": {
                "error": f"Whose {stream.error} is lower",
                "alignment": "Whose alignment is higher",
            }[comparison.quantity],
            "decided": words.decided(comparison, stream),
            "reach": words.reach(comparison),
            "left": words.not_decided(comparison),
        }
        for comparison in compared
        if comparison.quantity == "error" or comparison.pairs
    ]
    return {
        "name": stream.name,
        "headline": words.headline(stream, compared[0]),
        "correlated": words.correlated(stream),
        "warnings": [*words.warnings(stream)],
        "references": words.references(stream),
        "heads": heads,
        "numbers": numbers,
        "rows": [*zip(colours, names, rows, strict=True)],
        "parts": parts,
    }


def _ms(costs: Costs, at: tuple[str, str]) -> str:
    if at not in costs.median:
        return ""
    return f"{number(costs.median[at])} ({number(costs.least[at])})"


def _cost(costs: Costs) -> list[str]:
    """Say how steps were timed, and which were not."""
    if not costs.place:
        said = ["No step was timed."]
    else:
        text = "Milliseconds a step: unroll and backward pass of one chunk with carried influence, "
        text += f"all rules in turns in one process, median (and least); on {costs.place}."
        said = [text]
        if costs.unsteady > UNSTEADY:
            slower = f"a median was {costs.unsteady:.1f} times the least"
            said.append(f"Other processes disturbed the times: {slower}; repeat when idle.")
    return said + [f"Not timed: {name}: {why}" for name, why in costs.left_out.items()]


def _middle_half(rule: Rule) -> str:
    errors = [*rule.errors().values()]
    if len(errors) < 2:
        return ""
    low, high = quartiles(errors)
    return f"{number(low)} to {number(high)}"
