"""The end of a run whose validation gets no better."""

from lightning.pytorch import Callback, Trainer

from bptt_lab.runs import streams
from bptt_lab.training.callbacks.writers import State
from bptt_lab.training.module import SequenceModule
from bptt_lab.training.patience import Patience


class EarlyStopping(Callback):
    """End training where patience is at its end; the run is validated and tested as any other.

    Lightning's own class is known to a run too; this one says nothing to a fleet's steps.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    def on_validation_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Ask for the end, and say why."""
        own = self._patience
        if own.ends(pl_module.metrics[own.metric]) and not trainer.should_stop:
            trainer.should_stop = True
            if trainer.is_global_zero:
                streams.progress("")
                why = f"{own.metric} was no better than {own.best:.4g} for {own.waited} validations"
                print(f"stopped early after {trainer.global_step} steps: {why}", flush=True)

    def state_dict(self) -> State:
        """Return what patience has seen."""
        return self._patience.state_dict()

    def load_state_dict(self, state_dict: State) -> None:
        """Go on from that."""
        self._patience.load_state_dict(state_dict)
