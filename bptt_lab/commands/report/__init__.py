"""The report of a sweep, from its folder alone: it can be written again, and while jobs run."""

from pathlib import Path


def write_report(sweep_dir: Path, target_loss: float | None = None) -> Path:
    """Write results.csv, report.html, report/*.png and _summary/ into a sweep's folder.

    Args:
        sweep_dir: the sweep's folder, finished or not.
        target_loss: the validation loss whose time is measured; by default, for each dataset, one
            that about half of the settings reach with all their seeds, chance's at most.

    Returns:
        The path of report.html.

    Raises:
        ConfigError: where the folder is not a sweep's, or holds no job.
        OSError: where it cannot be written to.
    """
    # matplotlib, torch and TensorBoard take seconds to import; whoever only imports us pays none.
    from bptt_lab.commands.report.write import write_report as write

    return write(sweep_dir, target_loss)
