"""Echo learnt in chunks: which of the lags 3 and 8 a chunk's gradient can teach.

Four units, which do not carry bits that they were not taught to carry, and sixteen for the longer
chunks, as in the source. The .520 is the source's. The limit of .47 nats is ours: it lies between
.519, which lag 3 alone leaves, and .4545, which both lags leave. With some 30 units chunks of 5
reach both lags, too: their untrained state carries the last few bits already, and the readout alone
finds them.
"""

from __future__ import annotations

from bptt_lab.commands.reproduce.claim import Claim, Kind, Measure, Result, Trial
from bptt_lab.commands.reproduce.training import train

SOURCE = "Pitis 2016"
SET_ON, TESTED_ON = range(3), range(10, 13)


def _losses(trial: Trial, chunk_length: int, hidden_size: int) -> list[float]:
    size, length = f"model.hidden_size={hidden_size}", f"dataset.chunk_length={chunk_length}"
    return [train("echo_chunks", length, size, f"seed={seed}")["test/loss"] for seed in trial.seeds]


def lag_3_only(trial: Trial) -> Result:
    """Chunks of 5 stay where lag 3 alone leads."""
    losses = _losses(trial, 5, 4)
    return Result(all(0.51 < loss < 0.53 for loss in losses), _said(losses))


def _both(chunk_length: int) -> Measure:
    def measure(trial: Trial) -> Result:
        losses = _losses(trial, chunk_length, 16)
        return Result(max(losses) < 0.47, _said(losses))

    return measure


def _said(losses: list[float]) -> str:
    return ", ".join(f"{loss:.4f}" for loss in losses) + " nats"


def _claim(chunk_length: int, kind: Kind, expected: str, measure: Measure) -> Claim:
    return Claim(
        name=f"chunk_{chunk_length}",
        kind=kind,
        source=SOURCE,
        expected=expected,
        measure=measure,
        set_on=SET_ON,
        tested_on=TESTED_ON,
    )


CLAIMS = [
    _claim(5, "published", ".520 +- .010 nats, 4 units", lag_3_only),
    _claim(10, "regression", "< .47 nats, 16 units", _both(10)),
    _claim(15, "regression", "< .47 nats, 16 units", _both(15)),
]
