"""How far back the loss is felt, on the probe: credit by lag, over the whole of training."""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from bptt_lab import diagnostics
from bptt_lab.training.callbacks.lag_spectrum import chosen
from bptt_lab.training.callbacks.pictures import curves, decades
from bptt_lab.training.callbacks.probe import Instrument, Moment, Reading
from bptt_lab.training.callbacks.writers import State
from bptt_lab.training.histograms import log_histogram

ROWS = 200  # of the map over training; then every other one goes


class CreditFlow(Instrument):
    """Credit by lag, of the last layer.

    Scalars `credit_log10_at_lag/<d>`, log10 |dE_t/dh_{t-d}|; maps of credit by lag over training,
    and by (t, s) at a moment; a histogram over all pairs of steps.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._steps: list[int] = []
        self._by_lag: list[Tensor] = []
        self._map = torch.zeros(0, 0)

    def read(self, moment: Moment) -> Reading:
        """Measure the flow and keep its profile by lag."""
        flow = diagnostics.credit_flow(moment.rnn, moment.input, moment.loss)
        by_lag, self._map = flow.by_lag[-1].cpu(), flow.log10[-1].cpu()
        if not self._steps or self._steps[-1] != moment.step:
            self._steps.append(moment.step)
            self._by_lag.append(by_lag)
        if len(self._steps) > ROWS:
            self._steps, self._by_lag = self._steps[::2], self._by_lag[::2]
        scalars = {
            f"credit_log10_at_lag/{lag:03d}": float(by_lag[lag])
            for lag in [0, *chosen(len(by_lag) - 1)]
        }
        reached = self._map[self._map > -torch.inf]
        pairs = {"credit_log10/by_pair": log_histogram(10**reached)} if len(reached) else {}
        return Reading(scalars, pairs)

    def draw(self) -> Mapping[str, Figure]:
        """Draw the map of the moment and the one of training."""
        title = "How far back is the loss felt? log10 |dE_t/dh_(t-d)|"
        if len(self._steps) == 1:  # a map of one row is a curve
            line = {"credit": (torch.arange(len(self._by_lag[0])), self._by_lag[0])}
            training = curves(title, "lag d (steps)", "log10 of credit", line)
        else:
            training = decades(
                title, "lag d (steps)", "optimizer step", torch.stack(self._by_lag), self._steps
            )
        with_loss = (self._map > -torch.inf).any(1).nonzero().flatten()
        if len(with_loss) == 1:
            t = int(with_loss[0])
            line = {"credit": (torch.arange(1, t + 2), self._map[t, : t + 1])}
            name = f"Which states does step {t + 1}'s loss feel? log10 |dE_t/dh_s|"
            moment = curves(name, "step s of the state", "log10 of credit", line)
        else:
            moment = decades(
                "Which states does which loss feel? log10 |dE_t/dh_s|",
                "step s of the state",
                "step t of the loss",
                self._map,
                range(1, len(self._map) + 1),
                first=1,
            )
        return {"credit/by_lag_over_training": training, "credit/by_pair_of_steps": moment}

    def state_dict(self) -> State:
        """Add the profiles so far."""
        history = {"steps": list(self._steps), "by_lag": list(self._by_lag)}
        return super().state_dict() | {"history": history}

    def load_state_dict(self, state_dict: State) -> None:
        """Go on with the map."""
        super().load_state_dict(state_dict)
        self._steps = list(state_dict["history"]["steps"])
        self._by_lag = [profile.cpu() for profile in state_dict["history"]["by_lag"]]
