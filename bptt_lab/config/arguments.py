"""The flags of the command line, which are Hydra's, refused on one line where they cannot be."""

import argparse
import os
from typing import NoReturn

from bptt_lab.config.hydra_internals import get_args_parser
from bptt_lab.core.validation import ConfigError


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parse flags as Hydra does, but overrides anywhere among them, and refuse on one line."""
    parser = get_args_parser()

    def error(message: str) -> NoReturn:
        raise ConfigError(f"{message}; bptt-train --help lists what there is")

    parser.error = error  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(argv)
    modes = ("run", "multirun", "cfg", "info", "shell_completion")
    chosen = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(args, mode)]
    if len(chosen) > 1:
        raise ConfigError(f"{' '.join(chosen)}: exclude each other; keep one")
    if args.resolve and not (args.cfg or args.help):
        raise ConfigError("--resolve: needs --cfg job, which it resolves; add that or leave it out")
    if args.experimental_rerun is not None:
        problem = "is a pickle, which could run anything; continue a run with resume=RUN_FOLDER"
        raise ConfigError(f"--experimental-rerun={args.experimental_rerun}: {problem}")
    if args.config_dir is not None and not os.path.isdir(args.config_dir):
        raise ConfigError(f"--config-dir={args.config_dir}: is not a folder; give one that exists")
    return args
