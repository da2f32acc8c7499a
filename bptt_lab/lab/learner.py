"""A network that learns at every step of a stream, with no window."""

import copy
import io
import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.lab.outputs import Outputs
from bptt_lab.nn.losses import LOSSES
from bptt_lab.runs import files
from bptt_lab.runs.outcome import Diverged
from bptt_lab.training import checkpoint_io, network

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


class Learner:
    """One stream without an end, learnt from step by step, as River's estimators do.

    Each step is a chunk of its own: state, influence and optimizer go on from step to step, and no
    step is kept. A rule that carries influence (RTRL, SnAp1, UORO and their kin) therefore reaches
    all steps before; with fixed weights RTRL's gradients add up to full BPTT's of the stream. Any
    other rule reaches a single step, as Full() with truncation at 1 does, and is warned of. While
    the weights move, the influence is that of the weights that there were.

    Args:
        net: the network that it begins with; it learns on a copy, `learner.net`. Units are not
            dropped.
        gradient: the gradient strategy, an object.
        optimizer: makes an optimizer of parameters, such as torch.optim.SGD or
            `functools.partial(torch.optim.Adam, lr=1e-3)`. None leaves the weights as they are and
            adds up gradients in their `.grad`.

    Raises:
        ConfigError: for a strategy that cannot train all that is to be trained.

    Examples:
        >>> from functools import partial
        >>> import torch
        >>> from bptt_lab import VanillaRNN
        >>> from bptt_lab.gradients import RTRL
        >>> from bptt_lab.lab import Codec, Net, Network
        >>> parts = VanillaRNN(1, 8), torch.nn.Linear(8, 1), None, Codec(1, 1, "mse")
        >>> net = Net(Network(*parts))  # or lab.load(run_folder)
        >>> learner = net.learner(gradient=RTRL(), optimizer=partial(torch.optim.SGD, lr=0.01))
        >>> for x, y in [(0.1, 0.2), (0.2, 0.3)]:
        ...     guess = learner.predict_one(x)  # looks, and does not step
        ...     learner.learn_one(x, y)
    """

    def __init__(
        self, net: Outputs, *, gradient: GradientStrategy, optimizer: MakeOptimizer | None
    ) -> None:
        self.net = copy.deepcopy(net).eval()
        self.net.rnn.gradient = gradient
        trained = [p for p in self.net.parameters() if p.requires_grad]
        self.optimizer = None if optimizer is None else optimizer(trained)
        self._loss = LOSSES[net.codec.loss]
        _refuse_untrained(self.net, gradient)
        if not gradient.carries_influence:
            name = type(gradient).__name__
            problem = (
                f"gradient={gradient!r}: with one step a chunk {name} cuts credit after a step"
            )
            warnings.warn(f"{problem}; RTRL, SnAp1 and UORO carry influence on", stacklevel=3)
        self.carry = gradient.init_carry(self.net.rnn, 1)

    @property
    def gradient(self) -> GradientStrategy:
        """The strategy by which it learns."""
        return self.net.rnn.gradient

    def predict_one(self, x: Any) -> Any:
        """Answer a step before it is learnt from; nothing changes.

        Args:
            x: as `Stream.predict_one` has it.
        """
        return self.net.answer(self._look(x))

    def predict_proba_one(self, x: Any) -> Any:
        """Return every class's probability, (O), as `predict_one` does the answer."""
        return self.net.codec.chances(self._look(x))

    def _look(self, x: Any) -> Tensor:
        encoded = self.net.codec.encode([x])[None]
        return self.net.advance(encoded, self.carry.hx)[0][0, 0]

    def learn_one(self, x: Any, y: Any = None) -> None:
        """Read one step, and learn from its right answer.

        Args:
            x: as `Stream.predict_one` has it.
            y: the answer, in the terms of `predict_one`; None where there is none (yet).

        Raises:
            ConfigError: for an `x` or `y` of another form; nothing has changed then.
            Diverged: where the loss is inf or NaN; the weights are as they were.
        """
        codec = self.net.codec
        self.step(codec.encode([x])[None], None if y is None else codec.target(y))

    def step(self, input: Tensor, target: Tensor | None) -> None:
        """Do `learn_one` with an encoded input (1, 1, I) and the codec's target."""
        net = self.net
        input = input.to(net.readout.weight.dtype)
        if net.embedding is not None:
            input = net.embedding(input)
        output, self.carry = net.rnn.gradient.unroll(net.rnn, input, self.carry)
        if target is None:
            return
        prediction = net.readout(output)
        if target.is_floating_point():
            target = target.to(prediction.dtype)
        loss = self._loss(prediction, target[None, None]).sum()
        if not math.isfinite(loss.item()):
            problem = f"the loss is {loss.item()}: the learner has diverged"
            raise Diverged(f"{problem}; begin again with a smaller rate, or from what was saved")
        torch.autograd.backward(loss)
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad()

    def reset(self) -> None:
        """Begin a new sequence: no state, no influence. Draws and the optimizer go on."""
        self.carry = self.gradient.init_carry(self.net.rnn, 1, after=self.carry)

    def save(self, path: str | Path) -> None:
        """Write all it takes to go on, whole or not at all; see `lab.load_learner`.

        Raises:
            ConfigError: where the file cannot be written; one that was there is as it was.
        """
        net, path = self.net, Path(path)
        content = {
            network.KEY: network.described(net.network),
            "state_dict": net.state_dict(),
            "frozen": [name for name, p in net.named_parameters() if not p.requires_grad],
            "carry": _plain(self.carry),
            "optimizer": type(self.optimizer).__name__,
            "optimizer_state": self.optimizer and self.optimizer.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(checkpoint_io.compact(content), buffer)
        try:
            with files.replacing(path, durable=True) as file:
                file.write(buffer.getvalue())
        except OSError as error:
            problem = f"{path}: cannot be written ({error.strerror or error}); give another path"
            raise ConfigError(problem) from error


def _plain(value: Any) -> Any:
    """Nested containers as plain ones, and tensors without their graph."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _refuse_untrained(net: Outputs, gradient: GradientStrategy) -> None:
    """Refuse an embedding that is to be trained by a rule with a gradient for parameters only."""
    embedding = net.embedding
    if embedding is None or gradient.input_gradient or not embedding.weight.requires_grad:
        return
    problem = f"gradient={gradient!r}: has no gradient for the embedding"
    raise ConfigError(f"{problem}; keep it as it is with net.embedding.requires_grad_(False)")
