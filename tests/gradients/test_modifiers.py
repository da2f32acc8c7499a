"""Feedback alignment and credit clipping: against autograd with the same change made by hand."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.nn.utils.rnn import pack_sequence

from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.adaptive import Adaptive
from bptt_lab.gradients.artbp import ARTBP
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import Carry
from bptt_lab.gradients.checkpointed import Checkpointed
from bptt_lab.gradients.credit_clip import CreditClip
from bptt_lab.gradients.feedback_alignment import FeedbackAlignment
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.gradients.uoro import UORO

from .contract import assert_identical, assert_same, random_tensor
from .nets import PHI, Net, collect, gradients

NETS = [
    Net(4, 9),
    Net(3, 8, num_layers=2, leak=0.4),
    Net(4, 7, num_layers=3, nonlinearity="relu", loss="last", bias=False),
]
SWEEPS = [
    Full(),
    Truncated(k=3),
    Truncated(k=4, mode="tail"),
    ARTBP(mean_length=3),
    ARTBP(mean_length=3, alpha=2.5),
]
OTHERS = [Truncated(k=3, mode="lag"), Truncated(k=4, mode="window", k1=2), Adaptive(target=0.3)]
BEYOND = 1e300  # no credit is as long


class OwnWeights(FeedbackAlignment):
    """The feedback is W_hh itself."""

    def feedback(self, index, weight_hh):
        return weight_hh


def by_autograd(net, feedback=None, clip=None):
    """torch's own graph, with feedback matrices and with hooks that clip dE/dh_t."""
    rnn, (input, hx) = net.rnn(), net.data()
    events = []

    def clipped(grad):
        norm = grad.norm(dim=1, keepdim=True)
        events.extend((norm > clip).flatten().tolist())
        return grad * (clip / norm).clamp(max=1)

    x_LNI = input
    for layer, (ih, hh, *biases) in enumerate(rnn.all_weights):
        B = hh.detach() if feedback is None else feedback[layer]
        h, rows = hx[layer], []
        for x in x_LNI:
            through = h @ B.T  # its value is taken away again, its gradient stays
            recurrent = h.detach() @ hh.T + through - through.detach()
            phi = PHI[net.nonlinearity](x @ ih.T + recurrent + sum(biases))
            h = (1 - net.leak) * h + net.leak * phi
            if clip is not None:
                h.register_hook(clipped)
            rows.append(h)
        x_LNI = torch.stack(rows)
    net.loss_of(x_LNI).backward()
    return collect(rnn, input=input, hx=hx), events


@pytest.mark.parametrize("net", NETS, ids=str)
@pytest.mark.parametrize("of", [*SWEEPS, *OTHERS], ids=repr)
class TestNothingChanged:
    """With a change that changes nothing they are what they wrap."""

    @staticmethod
    def assert_equal(modifier, of, net):
        assert_same(gradients(modifier, net, draw=5), gradients(of, net, draw=5), f"{modifier}")
        (input, hx), q = net.data(), random_tensor(net.num_steps, 3, net.hidden_size)
        input, hx = input.detach(), hx.detach()
        after = Carry(hx, draw=7)
        credits = [
            {"credit": s.credit(net.rnn(s), input, hx, q, after=after)} for s in (modifier, of)
        ]
        assert_same(*credits, f"credit, {modifier}")

    def test_feedback_by_the_transpose(self, of, net):
        self.assert_equal(OwnWeights(of=of), of, net)

    def test_clip_beyond_all_credit(self, of, net):
        if of in OTHERS:
            with pytest.raises(ConfigError, match="one adjoint sweep"):
                CreditClip(of=of)
            return
        modifier = CreditClip(of=of, clip=BEYOND)
        self.assert_equal(modifier, of, net)
        both = CreditClip(of=OwnWeights(of=of), clip=BEYOND)
        self.assert_equal(both, of, net)
        self.assert_equal(OwnWeights(of=CreditClip(of=of, clip=BEYOND)), of, net)


@pytest.mark.parametrize("net", NETS, ids=str)
def test_feedback_by_autograd(net):
    strategy = FeedbackAlignment(of=Full(), seed=3)
    layers = net.rnn().all_weights
    feedback = [strategy.feedback(i, layer[1].detach()) for i, layer in enumerate(layers)]
    expected, _ = by_autograd(net, feedback)
    assert_same(gradients(strategy, net), expected, "random feedback", 1e-12)


def test_feedback_is_fixed_and_scaled():
    W = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    strategy = FeedbackAlignment(of=Full(), seed=3)
    B = strategy.feedback(0, W)
    assert B.norm() == pytest.approx(float(W.norm()))
    assert torch.allclose(strategy.feedback(0, 2.5 * W.flip(0)), 2.5 * B)
    again = FeedbackAlignment(of=Truncated(k=2), seed=3)
    assert torch.equal(again.feedback(0, W), B)
    others = [strategy.feedback(1, W), FeedbackAlignment(of=Full(), seed=4).feedback(0, W), W, W.T]
    assert all(abs(torch.cosine_similarity(o.flatten(), B.flatten(), 0)) < 0.5 for o in others)


@pytest.mark.parametrize("clip", [0.1, 0.3, 2.0])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_clip_by_autograd(net, clip):
    strategy = CreditClip(of=Full(), clip=clip)
    expected, events = by_autograd(net, clip=clip)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    net.loss_of(rnn(input, hx)[0]).backward()
    assert_same(collect(rnn, input=input, hx=hx), expected, "clipped credit", 1e-12)
    assert len(events) == net.num_layers * net.num_steps * 3 and sum(events) > 0
    assert rnn.estimate == {"clipped_fraction": sum(events) / len(events)}


@pytest.mark.parametrize("of", SWEEPS, ids=repr)
def test_no_credit_is_longer_than_the_clip(of):
    net = Net(4, 12, num_layers=2)
    (input, hx), q = net.data(), 5 * random_tensor(12, 3, 4)
    strategy = CreditClip(of=of, clip=1.5)
    credit = strategy.credit(net.rnn(strategy), input.detach(), hx.detach(), q)
    norms = credit.norm(dim=-1)
    assert norms.max() <= 1.5 * (1 + 1e-14)
    assert (norms > 1.5 * (1 - 1e-12)).any()


def test_holds_back_only_the_sequence_that_explodes():
    net = Net(4, 12)
    (input, hx), q = net.data(), random_tensor(12, 3, 4)
    q[:, 1] *= 1e6
    alone = Full().credit(net.rnn(), input.detach(), hx.detach(), q)
    strategy = CreditClip(of=Full(), clip=1e3)
    clipped = strategy.credit(net.rnn(strategy), input.detach(), hx.detach(), q)
    assert_same({"c": clipped[:, :, [0, 2]]}, {"c": alone[:, :, [0, 2]]}, "others", 1e-12)
    assert clipped[:, :, 1].norm(dim=-1).max() <= 1e3 * (1 + 1e-12)


@pytest.mark.parametrize("lengths", [(7, 7, 7), (7, 5, 2)])
@pytest.mark.parametrize("of", SWEEPS, ids=repr)
def test_losses_of_last_states(of, lengths):
    """They enter the clipped sweep where each sequence ends, in every layer."""
    net = Net(4, 7, 3, num_layers=2, leak=0.5)
    found = []
    for strategy in (of, CreditClip(of=of, clip=BEYOND)):
        rnn, (input, _) = net.rnn(strategy), net.data()
        if min(lengths) < 7:
            packed = pack_sequence([input[:n, i].detach() for i, n in enumerate(lengths)])
            output, h_n = rnn(packed)
            output = output.data
        else:
            output, h_n = rnn(input.detach())
        (net.loss_of(output) + h_n.square().sum()).backward()
        found.append(collect(rnn))
    assert_same(found[1], found[0], f"losses of h_n, lengths {lengths}")


@pytest.mark.parametrize("make", [FeedbackAlignment, CreditClip])
def test_draws_are_the_wrapped_strategys(make):
    net, of = Net(4, 20), ARTBP(mean_length=4, seed=2)
    strategy = make(of=of)
    first, second = (gradients(strategy, net, draw=draw) for draw in (0, 1))
    assert not torch.equal(first["weight_hh_l0"], second["weight_hh_l0"])
    again = make(of=ARTBP(mean_length=4, seed=2))
    assert_identical(gradients(again, net, draw=1), second, "same draw")
    # A kept graph keeps its cuts.
    rnn, (input, hx) = net.rnn(strategy), net.data()
    loss = net.loss_of(rnn(input, hx)[0])
    loss.backward(retain_graph=True)
    once = rnn.weight_hh_l0.grad.clone()
    rnn(input, hx)
    loss.backward()
    assert torch.equal(rnn.weight_hh_l0.grad, 2 * once)


def test_estimate_is_the_wrapped_strategys():
    net, (input, hx) = Net(4, 12), Net(4, 12).data()
    found = []
    for strategy in (Adaptive(target=0.1), FeedbackAlignment(of=Adaptive(target=0.1))):
        rnn = net.rnn(strategy)
        net.loss_of(rnn(input, hx)[0]).backward()
        found.append(rnn.estimate)
    assert found[0].keys() == found[1].keys() and found[1]["k"] < 64


@pytest.mark.parametrize("name", ["feedback_alignment", "credit_clip"])
@pytest.mark.parametrize("of", ["artbp", "full"])
def test_nested_sections_are_made(name, of):
    folder = Path(__file__).parents[2] / "conf" / "gradient"
    config = OmegaConf.load(folder / f"{name}.yaml")
    config.of = OmegaConf.load(folder / f"{of}.yaml")
    made = instantiate(OmegaConf.create({"seed": 7, "gradient": config}).gradient)
    assert gradients(made, Net(4, 7)).keys() == gradients(Full(), Net(4, 7)).keys()
    assert "seed=7" in repr(made) or (name, of) == ("credit_clip", "full")


@pytest.mark.parametrize("make", [FeedbackAlignment, CreditClip])
@pytest.mark.parametrize("of", [Autograd(), Checkpointed(), UORO()], ids=repr)
def test_refuses_what_is_not_future_facing(make, of):
    with pytest.raises(ConfigError, match=r"must be a future-facing strategy.*; wrap Full"):
        make(of=of)


def test_refuses_to_clip_what_is_no_sweep():
    with pytest.raises(ConfigError, match=r"one adjoint sweep.*; wrap Full"):
        CreditClip(of=FeedbackAlignment(of=Truncated(k=3, mode="window")))

    class Foreign(Full):
        def assign(self, stack):
            return [stack.from_delta(0, s[1:], s[1:]) for s in [stack.layers[0].states]]

    with pytest.raises(ConfigError, match="one adjoint sweep"):
        gradients(CreditClip(of=Foreign()), Net(4, 7))


def test_refuses_a_clip_of_nothing():
    with pytest.raises(ConfigError, match="clip=0: must be greater than 0"):
        CreditClip(of=Full(), clip=0)
