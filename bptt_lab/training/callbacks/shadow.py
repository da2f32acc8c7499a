"""Shadow strategies: where others would point, while one trains."""

from collections.abc import Mapping
from typing import Any

from bptt_lab import diagnostics
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.training.callbacks.probe import Instrument, Moment, Reading


class Shadow(Instrument):
    """Several strategies' gradients beside full BPTT's, on the same probe and parameters.

    Scalars `alignment/cosine_<name>`, `.../norm_ratio_<name>` and `.../relative_error_<name>`;
    under the name `training` those of the strategy that trains, where it is not exact.
    """

    def __init__(self, *, strategies: Mapping[str, GradientStrategy], **settings: Any) -> None:
        super().__init__(**settings)
        self.strategies = dict(strategies)

    def read(self, moment: Moment) -> Reading:
        """Compare all strategies."""
        strategies, own = dict(self.strategies), moment.rnn.gradient
        if not own.exact_within_chunk:
            strategies["training"] = own
        if not strategies:
            return Reading({})
        begin = own.init_carry(moment.rnn, moment.input.shape[1])._replace(draw=moment.step)
        training = (moment.carry or begin)._replace(draw=moment.step)
        after = dict.fromkeys(strategies, begin) | {"training": training}
        known = moment.rnn, moment.input, moment.loss
        aligned = diagnostics.alignment(*known, strategies, after=after)
        scalars = {
            f"alignment/{figure}_{name}": getattr(aligned[name], figure).value
            for name in strategies
            for figure in ("cosine", "norm_ratio", "relative_error")
        }
        return Reading(scalars)
