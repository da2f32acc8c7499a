"""A sequence in chunks: `rnn.unroll(input, carry)`, and what `rnn(input, hx)` then refuses."""

import copy

import pytest
import torch
from gradients.directions import orthogonal, shape_of, with_directions
from gradients.expectation import all_signs, with_signs
from gradients.nets import Net, collect
from gradients.test_contract import OPTIONS, made
from torch.nn.utils.rnn import pack_sequence

from bptt_lab import VanillaRNN
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import (
    ARTBP,
    KFRTRL,
    PES,
    RFLO,
    RTRL,
    UORO,
    Adaptive,
    Carry,
    ForwardGradient,
    Full,
    SketchedRTRL,
    SnAp1,
    Truncated,
)

STRATEGIES = {name: made(section) for name, section in OPTIONS.items()}
CARRY = {name: s for name, s in STRATEGIES.items() if s.carries_influence}
NET = Net(4, 11, leak=0.5)
SIGNS = {"uoro": 2, "kf_rtrl": 2}  # drawn a step at H = 2
DRAWS = {"forward_gradient": lambda num_chunks: 1, "pes": lambda num_chunks: num_chunks}


def over_chunks(rnn, input, lengths, loss_of=NET.loss_of, **begin):
    """The parameters' gradient, summed over chunks."""
    outputs, carry = [], None
    for chunk in input.split(lengths):
        output, carry = rnn.unroll(chunk, carry, **({} if carry else begin))
        loss_of(output).backward()
        outputs.append(output.detach())
    return torch.cat(outputs), collect(rnn)


def assert_close(actual, expected):
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-10, atol=1e-10)


def test_those_that_carry_influence():
    assert {"rtrl", "snap1", "uoro"} <= set(CARRY) and "full" not in CARRY


@pytest.mark.parametrize("lengths", [1, 4, [7, 1, 3]], ids=str)
@pytest.mark.parametrize("name", CARRY)
def test_over_chunks_it_is_what_the_readme_promises(name, lengths):
    """RTRL: full BPTT of the whole. Its estimators: in expectation. The biased: as in one chunk."""
    strategy = CARRY[name]
    if name in SIGNS:
        net = Net(2, 4, leak=0.5)
        lengths = lengths if isinstance(lengths, int) else [1, 2, 1]
        signs = all_signs(net.num_steps, SIGNS[name])
        input, count = net.data()[0].detach()[:, :1], signs.shape[1]
        rnn = net.rnn(with_signs(strategy, signs))
        _, total = over_chunks(rnn, input.expand(-1, count, -1), lengths)
        actual = {name: gradient / count for name, gradient in total.items()}
    elif name in DRAWS:
        net, input = NET, NET.data()[0].detach()[:, :1]
        drawn = orthogonal(DRAWS[name](len(input.split(lengths))), 1, *shape_of(net))
        rnn, count = net.rnn(with_directions(strategy, drawn.transpose(0, 1))), len(drawn)
        _, total = over_chunks(rnn, input.expand(-1, count, -1), lengths)
        actual = {name: gradient / count for name, gradient in total.items()}
    else:
        net, input = NET, NET.data()[0].detach()
        _, actual = over_chunks(net.rnn(strategy), input, lengths)
    exact = net.rnn(Full() if strategy.unbiased else strategy)
    net.loss_of(exact(input)[0]).backward()
    assert_close(actual, collect(exact))
    if strategy.exact_across_chunks:
        cut = over_chunks(net.rnn(Full()), input, lengths)[1]
        assert (actual["weight_hh_l0"] - cut["weight_hh_l0"]).norm() > 0.1  # what was wrong


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in CARRY])
def test_the_others_stop_where_a_chunk_begins(name):
    strategy = STRATEGIES[name]
    rnn, input = NET.rnn(strategy), NET.data()[0].detach()
    outputs, actual = over_chunks(rnn, input, 4)
    twin, hx = NET.rnn(strategy), None
    for chunk in input.split(4):
        output, hx = twin(chunk, hx)
        NET.loss_of(output).backward()
        hx = hx.detach()
    assert_close({**actual, "output": outputs[-1]}, {**collect(twin), "output": output[-1]})


@pytest.mark.parametrize("name", CARRY)
def test_the_drop_in_form_refuses_a_state_where_influence_would_be_lost(name):
    rnn, input = NET.rnn(CARRY[name]), NET.data()[0].detach()
    output, h_n = rnn(input)
    NET.loss_of(output).backward()  # without a state it is right
    packed = pack_sequence([input[:5, 0], input[:3, 1]])
    for again, hx in ((input, h_n), (input, torch.zeros_like(h_n)), (packed, h_n[:, :2])):
        with pytest.raises(ConfigError, match=r"^hx: .*rnn\.unroll\(input, carry\)") as refusal:
            rnn(again, hx)
        assert "\n" not in str(refusal.value)
    with torch.no_grad():
        rnn(input, h_n)  # nothing is learnt
    cut = NET.rnn(RTRL(carry_influence=False))
    cut(input, cut(input)[1].detach())


@pytest.mark.parametrize("name", CARRY)
def test_a_state_to_begin_with(name):
    input, hx = (tensor.detach() for tensor in NET.data())
    whole, _ = over_chunks(NET.rnn(CARRY[name]), input, 11, hx=hx)
    outputs, actual = over_chunks(NET.rnn(CARRY[name]), input, 4, hx=hx)
    torch.testing.assert_close(outputs, whole, rtol=0, atol=1e-13)
    if name == "rtrl":
        full = NET.rnn(Full())
        NET.loss_of(full(input, hx)[0]).backward()
        assert_close(actual, collect(full))


@pytest.mark.parametrize("gradient", [Full(), RTRL()], ids=repr)
def test_batch_first(gradient):
    settings = {"dtype": torch.float64, "gradient": gradient}
    first, other = VanillaRNN(3, 4, batch_first=True, **settings), VanillaRNN(3, 4, **settings)
    other.load_state_dict(first.state_dict())
    input, found = torch.randn(7, 5, 3, dtype=torch.float64), []
    for rnn, dim in ((first, 1), (other, 0)):
        carry, outputs = None, []
        for chunk in input.transpose(0, dim).split(3, dim):
            output, carry = rnn.unroll(chunk, carry)
            assert carry.hx.shape == (1, 5, 4) and not carry.hx.requires_grad
            output.square().sum().backward()
            outputs.append(output.transpose(0, dim).detach())
        found.append({**collect(rnn), "output": torch.cat(outputs)})
    assert_close(*found)


def test_refusals():
    rnn, zeros = VanillaRNN(3, 4), torch.zeros
    for input in (zeros(5, 3), pack_sequence([zeros(3, 3), zeros(2, 3)])):
        with pytest.raises(ValueError, match="unroll takes batches of equal length"):
            rnn.unroll(input)
    _, carry = rnn.unroll(zeros(5, 2, 3))
    with pytest.raises(TypeError, match="must be what unroll returned, not Tensor; a state"):
        rnn.unroll(zeros(5, 2, 3), zeros(1, 2, 4))
    with pytest.raises(ValueError, match="only one may be given"):
        rnn.unroll(zeros(5, 2, 3), carry, hx=carry.hx)
    with pytest.raises(RuntimeError, match="Expected hidden size"):
        rnn.unroll(zeros(5, 3, 3), carry)
    with pytest.raises(RuntimeError, match="the same dtype"):
        rnn.unroll(zeros(5, 2, 3), Carry(carry.hx.double()))
    with pytest.raises(RuntimeError, match="larger than 0"):
        rnn.unroll(zeros(0, 2, 3), carry)


@pytest.mark.parametrize(
    "gradient",
    [UORO(), pytest.param(KFRTRL(), marks=pytest.mark.slow), ARTBP(mean_length=4)],
    ids=lambda gradient: type(gradient).__name__,
)
@pytest.mark.parametrize("form", ["forward", "unroll"])
def test_the_mean_over_calls_is_full_bptts(gradient, form):
    """Every call has random numbers of its own: at H = 4, within a few standard errors."""
    net, count = Net(4, 6, 2), 400
    rnn, input = net.rnn(gradient), net.data()[0].detach()
    run = rnn if form == "forward" else rnn.unroll
    draws = []
    for _ in range(count):
        rnn.zero_grad()
        net.loss_of(run(input)[0]).backward()
        draws.append(torch.cat([p.grad.flatten() for p in rnn.parameters()]))
    assert rnn.draw == count
    full = net.rnn(Full())
    net.loss_of(full(input)[0]).backward()
    exact = torch.cat([p.grad.flatten() for p in full.parameters()])
    found = torch.stack(draws)
    error = (found.mean(0) - exact).square().sum()
    assert error < 3 * found.var(0).sum() / count


def test_draws_go_on_from_sequence_to_sequence():
    """However a sequence begins, its draws are new; a copy of the module goes on alike."""
    rnn, input = NET.rnn(UORO()), NET.data()[0].detach()
    seen = []
    for hx in (None, torch.zeros(1, 3, 4).double(), None):
        carry = None
        for chunk in input.split(6):
            _, carry = rnn.unroll(chunk, carry, **({} if carry else {"hx": hx}))
            seen.append(carry.draw)
    rnn(input)
    assert seen == [1, 2, 3, 4, 5, 6] and rnn.draw == 7
    assert "draw" not in rnn.state_dict() and copy.deepcopy(rnn).draw == 7
    found = []
    for net in (copy.deepcopy(rnn), NET.rnn(UORO())):
        net.draw = 7
        NET.loss_of(net(input)[0]).backward()
        found.append(collect(net))
    assert_close(*found)


def test_an_estimate_goes_on_from_sequence_to_sequence():
    rnn, input = NET.rnn(Adaptive(target=0.1)), NET.data()[0].detach()
    NET.loss_of(rnn(input)[0]).backward()
    k = rnn.estimate["k"]
    assert k < 11
    rnn.zero_grad()
    rnn(input)[0].sin().sum().backward()  # another loss, before another estimate is due
    expected = NET.rnn(Truncated(k=k, mode="lag"))
    expected(input)[0].sin().sum().backward()
    assert_close(collect(rnn), collect(expected))


def test_a_carry_goes_to_the_rule_and_the_batch_that_it_came_from():
    x = torch.randn(8, 2, 3)
    rnn = VanillaRNN(3, 4, gradient=RFLO())
    _, carry = rnn.unroll(x[:4])
    rnn.gradient = SnAp1()
    with pytest.raises(ConfigError, match="influence of RFLO"):
        rnn.unroll(x[4:], carry)
    rnn.gradient = RTRL()
    _, carry = rnn.unroll(x[:4])
    with pytest.raises(ConfigError, match=r"on 2 sequences.*input of 1;"):
        rnn.unroll(x[4:, :1], carry._replace(hx=carry.hx[:, :1]))
    rnn.gradient = RTRL(carry_influence=False)
    with pytest.raises(ConfigError, match=r"carry_influence=False.* cannot go on with"):
        rnn.unroll(x[4:], carry)
    _, carry = rnn.unroll(x[:4])
    rnn.gradient = RTRL()
    with pytest.raises(ConfigError, match=r"on no sequences, which RTRL\(store"):
        rnn.unroll(x[4:], carry)
    rnn.unroll(x[4:], hx=carry.hx)
    with torch.no_grad():
        _, carry = rnn.unroll(x[:4])
    rnn.unroll(x[4:], carry)  # what was not learnt from has no influence


@pytest.mark.parametrize("rule", [RTRL, KFRTRL, UORO, SnAp1, RFLO])
@pytest.mark.parametrize("sizes", [(5, 4, True), (3, 4, False), (3, 5, True), (1, 4, True)])
def test_a_carry_goes_to_the_net_that_it_came_from(rule, sizes):
    _, carry = VanillaRNN(3, 4, gradient=rule()).unroll(torch.randn(4, 2, 3))
    other = VanillaRNN(*sizes[:2], bias=sizes[2], gradient=rule())
    if other.hidden_size != 4:
        carry = carry._replace(hx=torch.zeros(1, 2, other.hidden_size))
    with pytest.raises(ConfigError, match=r"3 inputs, 4 units, bias=True on 2 .*cannot go on"):
        other.unroll(torch.randn(4, 2, sizes[0]), carry)


@pytest.mark.parametrize("own", [SketchedRTRL(rank=2), ForwardGradient(directions=2), PES(pairs=2)])
def test_a_carry_goes_to_the_setting_that_shaped_it(own):
    (name,) = own.shaping
    rnn, x = VanillaRNN(3, 4, gradient=own), torch.randn(4, 2, 3)
    _, carry = rnn.unroll(x)
    rnn.gradient = type(own)(**{name: 3})
    with pytest.raises(ConfigError, match=rf"{name}=2 in a net.* cannot go on with as .*{name}=3"):
        rnn.unroll(x, carry)
