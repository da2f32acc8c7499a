"""What every strategy in conf/gradient is as an object: settings, and claims true of them."""

import ast
import copy
import inspect
import textwrap
from pathlib import Path

import pytest
import torch

import bptt_lab.gradients
from bptt_lab.gradients.adaptive import Adaptive
from bptt_lab.gradients.credit_clip import CreditClip
from bptt_lab.gradients.feedback_alignment import FeedbackAlignment
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rtrl import RTRL

from .contract import suited
from .nets import Net, collect
from .test_contract import OPTIONS, made

STRATEGIES = {name: made(section) for name, section in OPTIONS.items()}
EVERY = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


def is_open(method) -> bool:
    """Whether a class may define a method anew: it is abstract, or refuses until then."""
    if getattr(method, "__isabstractmethod__", False):
        return True
    function = method.fget if isinstance(method, property) else inspect.unwrap(method)
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    *doc, last = definition.body
    refuses = isinstance(last, ast.Raise) and "NotImplementedError" in ast.unparse(last)
    exact = "if self.exact_within_chunk:"  # which needs no mask of its own
    return refuses and all(
        isinstance(node, ast.Expr) or ast.unparse(node).startswith(exact) for node in doc
    )


def overridden(kind: type) -> list[str]:
    """Concrete methods that some class in the lineage defines anew, dunder methods aside."""
    found = []
    for place, owner in enumerate(kind.__mro__):
        for name in vars(owner):
            for ancestor in kind.__mro__[place + 1 :]:
                method = vars(ancestor).get(name)
                if name.startswith("__") or not (inspect.isfunction(method) or is_property(method)):
                    continue
                if not is_open(method):
                    found.append(f"{owner.__name__}.{name} overrides {ancestor.__name__}'s")
    return found


def is_property(value: object) -> bool:
    return isinstance(value, property)


@EVERY
def test_a_method_is_abstract_or_final(strategy):
    assert overridden(type(strategy)) == []


def test_an_overridden_method_is_seen():
    class Tweaked(Full):
        def assign(self, stack):
            return super().assign(stack)

    class Claims(RTRL):
        exact_across_chunks = True

    assert overridden(Tweaked) == ["Tweaked.assign overrides Full's"]
    assert overridden(Claims) == ["Claims.exact_across_chunks overrides RTRL's"]


@EVERY
def test_a_strategy_holds_settings_only(strategy):
    """Nothing in it changes, however it is used."""
    before = repr(copy.deepcopy(vars(strategy)))
    net = suited(strategy, Net(4, 6, num_layers=2))._replace(leaves=False)
    rnn, (input, _) = net.rnn(strategy), net.data()
    carry = strategy.init_carry(rnn, net.batch_size)
    for chunk in input.split(3):
        output, carry = strategy.unroll(rnn, chunk, carry)
        net.loss_of(output).backward()
    net.loss_of(rnn(input)[0]).backward()
    assert repr(vars(strategy)) == before
    assert carry.draw == 2


@EVERY
def test_one_carry_gives_one_gradient(strategy):
    """However often, and whatever was done in between."""
    net = suited(strategy, Net(4, 6, num_layers=2))._replace(leaves=False)
    rnn, (input, _) = net.rnn(strategy), net.data()
    first, second = input.split(3)
    _, carry = strategy.unroll(rnn, first, strategy.init_carry(rnn, net.batch_size))
    found = []
    for _ in range(2):
        rnn.zero_grad()
        net.loss_of(strategy.unroll(rnn, second, carry)[0]).backward()
        found.append({name: g.clone() for name, g in collect(rnn).items()})
        net.loss_of(rnn(input)[0]).backward()
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name])


@EVERY
def test_draw_and_estimate_go_on_and_nothing_else(strategy):
    net = suited(strategy, Net(4, 6, num_layers=2))._replace(leaves=False)
    rnn, (input, _) = net.rnn(strategy), net.data()
    output, carry = strategy.unroll(rnn, input, strategy.init_carry(rnn, 3))
    net.loss_of(output).backward()
    after = strategy.init_carry(rnn, 5, after=carry)
    assert after.hx.shape[1] == 5 and not after.hx.any() and after.influence is None
    assert (after.draw, after.estimate) == (1, carry.estimate)


def test_claims_are_the_instances():
    assert RTRL().exact_across_chunks and RTRL().carries_influence
    cut = RTRL(carry_influence=False)
    assert not cut.exact_across_chunks and not cut.carries_influence and cut.exact_within_chunk
    biased = FeedbackAlignment(of=Full())
    assert not (biased.exact_within_chunk or biased.unbiased) and biased.linear
    assert not CreditClip(of=Full()).linear
    assert not FeedbackAlignment(of=CreditClip(of=Full())).linear


def test_readings_are_the_carrys_estimate():
    net = Net(4, 12)
    for strategy, names in (
        (Adaptive(target=0.1), {"k", "relative_bias"}),
        (FeedbackAlignment(of=Adaptive(target=0.1)), {"k", "relative_bias"}),
        (CreditClip(of=Full(), clip=0.1), {"clipped_fraction"}),
        (Full(), set()),
    ):
        rnn = net.rnn(strategy)
        output, carry = rnn.unroll(net.data()[0])
        net.loss_of(output).backward()
        readings = strategy.readings(carry)
        assert readings.keys() == names
        assert all(value > 0 for value in readings.values())


def test_gradients_know_nothing_of_nn():
    """Not even a type checker needs it: `RecurrentNet` says what a strategy uses."""
    for file in Path(bptt_lab.gradients.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                assert "bptt_lab.nn" not in ast.unparse(node), file
