"""Where among its epochs a checkpoint stands, by the state of Lightning's loops."""

from typing import Any

State = dict[str, Any]  # plain containers and tensors, as checkpoints hold


def epochs_begun(fit_loop: State) -> int:
    """Return how many epochs a checkpoint has seen, one that is not whole included."""
    whole: int = fit_loop["epoch_progress"]["current"]["processed"]
    return whole + int(fit_loop["epoch_loop.batch_progress"]["current"]["ready"] > 0)


def rewind(fit_loop: State, num_batches: float) -> None:
    """Have a checkpoint taken between two epochs begin the next one, at its first batch.

    Lightning's progress then still stands at the end of the epoch before, and a resumed run would
    go through that end once more.
    """
    batches = fit_loop["epoch_loop.batch_progress"]
    if batches["current"]["ready"] < num_batches:
        return
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
    epochs = fit_loop["epoch_progress"]
    for count in ("total", "current"):
        done = epochs[count]["processed"]
        epochs[count] = {**dict.fromkeys(epochs[count], done), "ready": done + 1}
