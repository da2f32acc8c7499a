"""Who asked for a run: what its manifest begins with."""

from collections.abc import Mapping
from dataclasses import dataclass

from bptt_lab.config.schema import Experiment


@dataclass(frozen=True)
class Job:
    """Who asked for a run: the options chosen in each group, the overrides, the command."""

    choices: Mapping[str, str]
    overrides: tuple[str, ...] = ()
    command: str = ""

    def manifest(self, experiment: Experiment) -> dict[str, object]:
        """Return what a run's manifest begins with."""
        return {
            "command": self.command,
            "overrides": list(self.overrides),
            "choices": dict(self.choices),
            "config": experiment.plain(),
        }
