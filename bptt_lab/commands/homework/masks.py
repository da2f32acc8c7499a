"""Mistakes as data: which terms (t, s) somebody keeps, and where they stand.

A new mistake is a line here. Steps count from 1.
"""

from collections.abc import Callable, Mapping

Mask = Callable[[int, int, int, int], bool]  # of t, s, T and k


def chunk(t: int, s: int, k: int) -> bool:
    """Whether s is in the chunk of t, and not after it."""
    return k > 0 and s <= t and (t - 1) // k == (s - 1) // k


def lag(t: int, s: int, k: int) -> bool:
    """Whether s is one of the k steps that end at t."""
    return 0 <= t - s < k


# Mistakes as data: which terms somebody keeps who keeps the wrong ones.
MASKS: Mapping[str, Mask] = {
    "nothing is cut": lambda t, s, T, k: s <= t,
    "no credit is carried back: only the terms t = s are there": lambda t, s, T, k: s == t,
    "credit is carried one step back and no further": lambda t, s, T, k: lag(t, s, 2),
}
BY_K: Mapping[str, Mask] = {
    "off by one in k: cut by chunk k+1 for k": lambda t, s, T, k: chunk(t, s, k + 1),
    "off by one in k: cut by chunk k-1 for k": lambda t, s, T, k: chunk(t, s, k - 1),
    "off by one in k: cut by chunk k-1 for k, or 1 where that is 0": (
        lambda t, s, T, k: chunk(t, s, max(1, k - 1))
    ),
    "off by one in k: cut by lag k+1 for k": lambda t, s, T, k: lag(t, s, k + 1),
    "off by one in k: cut by lag k-1 for k; k counts the loss's own step": (
        lambda t, s, T, k: lag(t, s, k - 1)
    ),
    "off by one in k: cut by lag k-1 for k, or 1 where that is 0": (
        lambda t, s, T, k: lag(t, s, max(1, k - 1))
    ),
    "cut by lag 2 k for k": lambda t, s, T, k: lag(t, s, 2 * k),
    "off by two in k: cut by lag k+2 for k": lambda t, s, T, k: lag(t, s, k + 2),
    "cut by lag, not by chunk": lambda t, s, T, k: lag(t, s, k),
    "cut by chunk, not by lag": lambda t, s, T, k: chunk(t, s, k),
    "chunks are counted from the end, so that the first one is the short one": (
        lambda t, s, T, k: chunk(T + 1 - s, T + 1 - t, k)
    ),
    "chunks begin one step early: the first one has k-1 steps": (
        lambda t, s, T, k: chunk(t + 1, s + 1, k)
    ),
    "chunks begin one step late: the first one has k+1 steps": (
        lambda t, s, T, k: chunk(max(t - 1, 1), max(s - 1, 1), k) and s <= t
    ),
    "chunks of 2 k": lambda t, s, T, k: chunk(t, s, 2 * k),
    "two steps, then chunks of k": lambda t, s, T, k: chunk(t + k - 2, s + k - 2, k),
    "a step alone, then chunks of k": lambda t, s, T, k: chunk(t + k - 1, s + k - 1, k),
    "the short last chunk is joined to the one before": (
        lambda t, s, T, k: s <= t and _joined(t, T, k) == _joined(s, T, k)
    ),
    "credit crosses one step into the chunk before": (
        lambda t, s, T, k: s <= t and s > (t - 1) // k * k - 1
    ),
    "the first step of a chunk is dropped": (
        lambda t, s, T, k: chunk(t, s, k) and (s - 1) % k != 0
    ),
    "the last step of a chunk is dropped": lambda t, s, T, k: chunk(t, s, k) and t % k != 0,
    "only the last k steps are used": lambda t, s, T, k: s <= t and s > T - k,
    "cut after every k-th step of all losses together, as window (k, 2k)": (
        lambda t, s, T, k: s <= t and s > min(T, -(-t // k) * k) - 2 * k
    ),
    "there are k chunks, not chunks of k": lambda t, s, T, k: chunk(t, s, max(1, T // k)),
    "there are k chunks, not chunks of k, rounded up": lambda t, s, T, k: chunk(t, s, -(-T // k)),
    "terms of lag exactly k-1 only": lambda t, s, T, k: t - s == k - 1,
}
# The same on top of the right mask: `right and this`.
LACKING: Mapping[str, Mask] = {
    "nothing is carried back to the first step, s=1": lambda t, s, T, k: s > 1 or s == t,
    "nothing is carried back from the last loss, t=T": lambda t, s, T, k: t < T or s == t,
    "the last loss's q_T is not used": lambda t, s, T, k: t < T,
    "only the last loss's q_T is used": lambda t, s, T, k: t == T,
    "the first loss's q_1 is not used": lambda t, s, T, k: t > 1,
    "the first step, s=1, gets nothing": lambda t, s, T, k: s > 1,
    "the last step, s=T, gets nothing": lambda t, s, T, k: s < T,
    "only the first step, s=1, gets something": lambda t, s, T, k: s == 1,
    "only the last step, s=T, gets something": lambda t, s, T, k: s == T,
    "a loss's own step, t = s, is lacking": lambda t, s, T, k: s < t,
}
LACKING_BY_K: Mapping[str, Mask] = {
    "the losses after the last full chunk of k steps are dropped": lambda t, s, T, k: (
        t <= T // k * k
    ),
    "a loss counts only where it sees k steps": lambda t, s, T, k: t >= k,
    "only the last chunk counts": lambda t, s, T, k: t > (T - 1) // k * k,
    "only the first chunk counts": lambda t, s, T, k: t <= k,
    "only the last loss of each chunk counts": lambda t, s, T, k: t % k == 0 or t == T,
    "only the last loss of each full chunk counts": lambda t, s, T, k: t % k == 0,
}
# How often somebody counts a term that counts once.
COUNTS: Mapping[str, Callable[[int, int, int, int], float]] = {
    "a loss is added again in every later window of k steps that holds it": (
        lambda t, s, T, k: sum(step - k < s for step in range(t, T + 1))
    ),
    "a loss is added again at every later step": lambda t, s, T, k: T - t + 1,
    "each chunk is divided by its length": (
        lambda t, s, T, k: 1 / (min(T, ((t - 1) // k + 1) * k) - (t - 1) // k * k)
    ),
    "each loss is divided by the number of its terms": (
        lambda t, s, T, k: 1 / sum(lag(t, step, k) for step in range(1, T + 1))
    ),
    "each loss is divided by t": lambda t, s, T, k: 1 / t,
    "each term is divided by t - s + 1": lambda t, s, T, k: 1 / (t - s + 1),
    "each loss is multiplied by t": lambda t, s, T, k: t,
}
# An answer that stands in the wrong place: the step whose term is at s.
PLACES: Mapping[str, Callable[[int, int], int]] = {
    "every step stands one index early, and the first one last (index -1)": lambda s, T: s % T + 1,
    "every step stands one index late, and the last one first": lambda s, T: s - 1 or T,
    "the steps stand in reverse order: index 0 holds the last one": lambda s, T: T + 1 - s,
    "every step stands one index late: index t holds step t": lambda s, T: s - 1,
    "every step stands one index early": lambda s, T: s + 1,
}
# The step whose q is taken for q_t, of t and T; None for nothing.
LOSSES: Mapping[str, Callable[[int, int], int | None]] = {
    "q_{t-1} for q_t, and nothing at t=1": lambda t, T: t - 1 if t > 1 else None,
    "q_{t-1} for q_t, and q_T at t=1 (index -1)": lambda t, T: t - 1 or T,
    "q_{t-1} for q_t, but not at t=T, and q_T at t=1 (index -1)": (
        lambda t, T: t if t == T else t - 1 or T
    ),
    "q_{t-1} for q_t, but not at t=T, and nothing at t=1": (
        lambda t, T: t if t == T else t - 1 or None
    ),
    "q_{t+1} for q_t, and nothing at t=T": lambda t, T: t + 1 if t < T else None,
    "q_{t+1} for q_t, and q_T at t=T": lambda t, T: min(t + 1, T),
    "q_{t+1} for q_t, and q_1 at t=T": lambda t, T: t % T + 1,
    "the q_t are taken in reverse order": lambda t, T: T + 1 - t,
    "q_1 for every q_t": lambda t, T: 1,
    "q_T for every q_t": lambda t, T: T,
}


def _joined(t: int, T: int, k: int) -> int:
    return min((t - 1) // k, max(0, T // k - 1)) if k else 0
