"""The command `bptt-sample`: text that a run's network writes."""

from collections.abc import Sequence
from typing import Annotated

from bptt_lab.commands import command, trained
from bptt_lab.core.validation import ConfigError, Ge
from bptt_lab.runs import outcome

DESCRIPTION = """\
Let the network of a run that learnt a text go on from some characters, each drawn by its chance.
The same seed gives the same text. Seed and first character of a run give the passage that it wrote
to TensorBoard after its first epoch, from the network of that epoch."""


@command.named("bptt-sample")
def main(argv: Sequence[str] | None = None) -> int:
    """Load the network and print what it writes as it writes it."""
    args = trained.arguments(_parser(), argv)
    net = trained.load(args)
    from bptt_lab.core.random import generator
    from bptt_lab.tasks.text import go_on

    characters, codec = net.codec.symbols, net.codec
    texts = all(isinstance(c, str) and len(c) == 1 for c in characters)
    if not characters or not texts or codec.classes != characters:
        problem = "is of a network that names no characters"
        raise ConfigError(f"{args.run_folder}: {problem}; give a run with dataset=text")
    prime = args.prime
    if prime is None:
        prime = "\n" if "\n" in characters else str(characters[0])
    try:
        read = codec.encode(prime).argmax(-1)
    except ConfigError as error:
        raise ConfigError(f"--prime: {error}") from error
    stdout, last, count = trained.stdout(), prime[-1], 0
    stdout.write("" if args.prime is None else prime)
    draws = generator(args.seed, "sample", 0)
    for number in go_on(net, read, args.length, draws, args.temperature):
        last, count = str(characters[number]), count + 1
        stdout.write(last)
    stdout.write("" if last == "\n" else "\n")
    if count < args.length:
        problem = f"its network gives no finite number after {count} characters"
        return command.say("bptt-sample", f"{args.run_folder}: {problem}", outcome.DIVERGED)
    return 0


def _parser() -> command.Parser:
    parser = trained.parser("bptt-sample", DESCRIPTION)
    parser.option("--prime TEXT", "what it goes on from; default: a new line")
    count = command.within(Annotated[int, Ge(1)])
    parser.option("--length N", "characters to write", count, 400)
    number = command.within(Annotated[float, Ge(0)])
    temperature = "below 1 keeps to what is likely, 0 to the likeliest, above 1 dares more"
    parser.option("--temperature T", temperature, number, 1.0)
    parser.option("--seed S", "of the draws", command.within(Annotated[int, Ge(0)]), 0)
    return parser
