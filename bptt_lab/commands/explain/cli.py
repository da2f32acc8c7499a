"""The command `bptt-explain`: the gradient of one small network, term by term."""

import argparse
import re
from collections.abc import Sequence
from typing import Annotated

from bptt_lab.commands import command
from bptt_lab.config import arguments, signatures
from bptt_lab.config.schema import Component
from bptt_lab.config.security import open_command_line
from bptt_lab.config.strategies import from_name, packaged
from bptt_lab.core.validation import ConfigError, Ge, Le, unmet

# In the place of what an option's file sets, which would cut nothing in so few steps.
SMALL = {"k": 2, "mode": "lag"}
DESCRIPTION = """\
Work out the gradient of one small network by hand: forward values, immediate credit, Jacobians,
every term of the gradient with its lag, their sum; compare it with the adjoint recursion, autograd
and finite differences; and show which terms a gradient strategy keeps, and what that costs."""


@command.named("bptt-explain")
def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, print the derivation, draw the figure if there is to be one."""
    args = _parser().parse_args(argv)
    command.find_plugins_here()
    component = _component(args)
    # Not before the arguments are known to be good: these import torch.
    from bptt_lab.commands.explain import example as examples
    from bptt_lab.commands.explain.derivation import Derivation
    from bptt_lab.training.build import make

    strategy = make("gradient", component)
    fixed, steps = args.seed is None, args.steps
    example = examples.fixed(steps) if fixed else examples.random(steps, args.seed)
    at = list(range(1, args.steps + 1)) if args.all else [args.steps]
    found = examples.compare(example, strategy, at)
    derivation = Derivation(example, at, args.digits)
    derivation.compare()
    derivation.show_strategy(repr(strategy), found)
    print(derivation.text, flush=True)
    if args.figure is not None:
        from bptt_lab.commands.explain.figure import draw

        draw(derivation, repr(strategy), found, args.figure)
        print(f"\nfigure  {args.figure}")
    return 0


def _component(args: argparse.Namespace) -> Component:
    """The strategy with its file's settings, but for what the command line gives, or SMALL."""
    given = {key: getattr(args, key) for key in SMALL if getattr(args, key) is not None}
    flags = [f"--config-dir={args.config_dir}"] if args.config_dir else []
    options = open_command_line(arguments.parse_arguments(flags))[0].strategies
    try:
        component = from_name("--gradient", args.gradient, given, options, allow=args.allow or ())
    except ConfigError as error:  # its settings are options of their own here
        text = str(error).replace("--gradient._target_", "--gradient").replace("--gradient.", "--")
        raise ConfigError(re.sub(r"allow=\[(\w+)\]", r"--allow \1", text)) from error
    accepted = signatures.read(component.target).settings
    small = {
        key: value
        for key, value in SMALL.items()
        if key in accepted and unmet(value, accepted[key].hint, component.settings) is None
    }
    return Component(component.target, {**component.settings, **small, **given})


def _parser() -> command.Parser:
    truncated = signatures.read(from_name("", "truncated", {}, packaged()).target)
    modes = truncated.settings["mode"].choices
    parser = command.Parser("bptt-explain", DESCRIPTION)
    names = ", ".join(packaged().names())
    parser.option("--gradient NAME", f"the strategy, one of {names}", default="truncated")
    parser.option(
        "--config-dir DIR", "a folder with more of them, as DIR/gradient/NAME.yaml; default: none"
    )
    parser.option(
        "--allow PACKAGE,PACKAGE",
        "packages beside bptt_lab that their classes may come from; default: none",
        lambda text: text.split(","),
    )
    parser.option(
        "--k K",
        "truncation lag, its own step included; default: 2",
        command.within(Annotated[int, Ge(1)]),
    )
    parser.option("--mode MODE", f"of truncated: {', '.join(modes)}; default: lag")
    parser.option("--all", "the losses of all steps; default: the last one's alone")
    parser.option("--steps T", "3 or 4", command.within(Annotated[int, Ge(3), Le(4)]), 3)
    seed = "draw the numbers at random; default: fixed ones"
    parser.option("--seed S", seed, command.within(Annotated[int, Ge(0)]))
    parser.option(
        "--digits D", "decimals, 2 to 12", command.within(Annotated[int, Ge(2), Le(12)]), 5
    )
    figure = f"draw it too, as {', '.join(command.PICTURES)}; default: no figure"
    parser.option("--figure FILE", figure, command.picture)
    return parser
