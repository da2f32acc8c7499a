"""What the statistics say, in sentences; what they do not say, too."""

import math
from collections.abc import Iterable, Iterator

from bptt_lab.commands.league import statistics
from bptt_lab.commands.league.comparison import Comparison, Pair, correlation
from bptt_lab.commands.league.statistics import ALPHA
from bptt_lab.commands.league.streams import Rule, Stream


def number(value: float | None) -> str:
    """Write a number with three digits; nothing for None."""
    if value is None:
        return ""
    if math.isinf(value):
        return "diverged"
    return f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def headline(stream: Stream, comparison: Comparison) -> str:
    """Say who has the least error, and below whose it is decided to be."""
    best, *others = stream.rules
    if best.error is None:
        return f"{stream.name}: no run has completed yet."
    if math.isinf(best.error):
        return f"{stream.name}: of each rule half of the runs or more diverged."
    over = count(len(best.errors()), "seed")
    text = f"{stream.name}: {best.name} has the least median {stream.error}, {number(best.error)}"
    if not others:
        return f"{text}, over {over}."
    below = len(comparison.beside(best)[0])
    return (
        f"{text}, over {over}; it is significantly below that of {below} of {len(others)} others."
    )


def references(stream: Stream) -> str:
    """Say how far one comes without a network; empty where the runs do not say it."""
    found = ", ".join(f"{name} {number(loss)}" for name, loss in stream.references().items())
    return f"Without a network, {stream.error} of the test split: {found}." if found else ""


def verdict(comparison: Comparison) -> str:
    """Say how many pairs differ."""
    return f"{len(comparison.decided)} of {count(len(comparison.pairs), 'pair')} differ."


def decided(comparison: Comparison, stream: Stream) -> list[str]:
    """Return a sentence for each pair that differs, the largest effects first."""
    return [_sentence(comparison, stream, pair) for pair in _by_size(comparison)]


def not_decided(comparison: Comparison) -> str:
    """Say of which pairs nothing is known; empty where there are none."""
    pairs = [pair for pair in comparison.pairs if not pair.is_decided]
    if not pairs:
        return ""
    seeds = sorted({pair.seeds for pair in pairs})
    by = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else count(seeds[0], "seed")
    named = "; ".join(f"{pair.one.name} and {pair.other.name}" for pair in pairs)
    total = count(len(comparison.pairs), "pair")
    return f"Not decided by {by}, {len(pairs)} of {total}: {named}."


def reach(comparison: Comparison) -> str:
    """Say which p can be reached, and how many seeds it would take where none is small enough."""
    pairs = len(comparison.pairs)
    if not pairs:
        return "No two rules have a seed in common that both completed, so nothing is compared."
    seeds, least = comparison.seeds, comparison.least
    given = f"With {count(seeds, 'seed')} and {count(pairs, 'pair')}"
    text = f"{given} the least p that can be reached after Holm is {least:.2g}"
    if least <= ALPHA:
        return f"{text}."
    needed = statistics.seeds_needed(pairs)
    return f"{text}, so no pair can be significant: that takes {needed} seeds."


def correlated(stream: Stream) -> str:
    """Say whether rules that are more aligned have less error; empty where it cannot be asked."""
    found = correlation(stream)
    if found is None:
        return ""
    rules, tau, its_p = found
    which = "lower" if tau < 0 else "higher"
    asked = f"Does alignment matter here? Over {rules} rules Kendall's tau of alignment and error"
    text = f"{asked} is {tau:.2f} ({p(its_p)})"
    if its_p <= ALPHA:
        return f"{text}: of these rules, those that are more aligned have {which} error."
    return f"{text}: that does not tell whether rules that are more aligned have lower error."


def p(value: float) -> str:
    """Write a p."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def counted(rule: Rule) -> str:
    """Say how many seeds count, and how many of them diverged."""
    counts, all_seeds = len(rule.errors()), len(rule.entries)
    text = str(counts) if counts == all_seeds else f"{counts} of {all_seeds}"
    return f"{text}, {rule.diverged} diverged" if rule.diverged else text


def unaligned(rules: Iterable[Rule]) -> str:
    """Name the rules whose alignment nobody measured; empty where there are none."""
    names = [rule.name for rule in rules if rule.alignment is None]
    return f"No alignment was logged for {', '.join(names)}." if names else ""


def warnings(stream: Stream) -> Iterator[str]:
    """Yield what a reader must know of how the runs were made."""
    if not any(rule.alignment is not None for rule in stream.rules):
        yield (
            "No run has logged an alignment: the rules are ranked by error alone. "
            "callbacks=online measures it."
        )
    elif missing := unaligned(stream.rules):
        yield missing
    if stream.repeated:
        these = count(stream.repeated, "run")
        yield f"Left out: {these} with the setting and the seed of a later one."
    if stream.epochs > 1:
        yield (
            f"The runs went through their data {stream.epochs} times: where these are the same in "
            "each epoch, the error is that of predicting what has been learnt from before."
        )


def _sentence(comparison: Comparison, stream: Stream, pair: Pair) -> str:
    middle, low, high, level = pair.effect
    where = "below" if pair.is_lower else "above"
    if comparison.quantity == "error":
        size = f"ratio {_ratio(middle)} ({_ratio(low)} to {_ratio(high)} at {100 * level:.1f} %)"
    else:
        size = f"difference {middle:+.3f} ({low:+.3f} to {high:+.3f} at {100 * level:.1f} %)"
    what = stream.error if comparison.quantity == "error" else "alignment"
    return (
        f"{pair.one.name}'s {what} is {where} that of {pair.other.name}: {size}, "
        f"{p(pair.holm)} after Holm, {count(pair.seeds, 'seed')}."
    )


def _ratio(value: float) -> str:
    if value == 0 or math.isinf(value):  # one of the two diverged
        return "0" if value == 0 else "infinity"
    return f"{value:.3g}"


def _by_size(comparison: Comparison) -> list[Pair]:
    def size(pair: Pair) -> float:
        middle = pair.effect.middle
        if comparison.quantity == "alignment":
            return -abs(middle)
        return -abs(math.log(middle)) if middle > 0 else -math.inf

    return sorted(comparison.decided, key=size)


def count(number: int, word: str) -> str:
    """Write a number and what it counts."""
    return f"{number} {word}{'' if number == 1 else 's'}"
