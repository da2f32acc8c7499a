"""A sweep over options and their settings, where not every option has every setting.

    bptt-train -m gradient=full,truncated gradient.k=1,8

asks for three jobs, not four: full BPTT has no k, so its two jobs are one. A setting that none
of the swept options has stays, and is refused as a mistake. A setting that a preset sweeps is for
the preset's options; where others are typed instead, those go without it if they do not have it.
"""

from collections.abc import Mapping, Sequence
from functools import cache

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from bptt_lab.config.compose import Compose, composer
from bptt_lab.config.hydra_internals import BasicSweeper


def applicable(
    jobs: list[list[str]], compose: Compose, preset: Mapping[str, set[str]] | None = None
) -> list[list[str]]:
    """Leave out of each job what its options do not have, and then what is there twice.

    Args:
        jobs: the overrides of each, as `key=value`.
        compose: from overrides to a configuration.
        preset: settings that nobody typed, each with the options that it was meant for.
    """
    preset = preset or {}

    @cache
    def settings(group: str, option: str) -> frozenset[str]:
        try:
            section = compose([f"{group}={option}"]).get(group)
        except HydraException:  # whoever composes the job says so
            return frozenset()
        return frozenset(map(str, section)) if isinstance(section, DictConfig) else frozenset()

    pairs = [[line.partition("=")[::2] for line in job] for job in jobs]
    options: dict[str, set[str]] = {}
    for job in pairs:
        for key, value in job:
            options.setdefault(key, set()).add(value)

    def foreign(key: str, choices: dict[str, str]) -> bool:
        group, _, setting = key.partition(".")
        known = options.get(group, set()) | preset.get(key, set())
        if not setting or len(known) < 2:
            return False
        name = setting.partition(".")[0]
        if name in settings(group, choices[group]):
            return False
        return any(name in settings(group, option) for option in known)

    kept = {}
    for job in pairs:
        choices = dict(job)
        lines = [f"{key}={value}" for key, value in job if not foreign(key, choices)]
        kept[tuple(lines)] = lines
    return list(kept.values())


class ApplicableSweeper(BasicSweeper):
    """Hydra's own sweeper, less the settings that do not apply."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose nothing, where the basic one composes every job: each has been checked before."""

    def split_arguments(  # type: ignore[override]  # static there; here it must compose
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return batches of jobs, each a list of overrides."""
        assert self.hydra_context is not None and self.config is not None
        compose = composer(self.hydra_context.config_loader, self.config)
        (jobs,) = super().split_arguments(overrides, None)
        number = len(self.config.hydra.sweeper.get("params") or {})  # they are the first ones
        kept = applicable(jobs, compose, _untyped(overrides[:number], overrides[number:]))
        return list(self.split_overrides_to_chunks(kept, max_batch_size))


def _untyped(preset: list[Override], typed: list[Override]) -> dict[str, set[str]]:
    """Return the preset's settings that are not typed, each with the preset's options."""
    options = {
        str(o.key_or_group): {*o.sweep_string_iterator()}
        if o.is_discrete_sweep()
        else {o.get_value_element_as_str()}
        for o in preset
    }
    keys = {str(o.key_or_group) for o in typed}
    return {key: options.get(key.partition(".")[0], set()) for key in options if key not in keys}
