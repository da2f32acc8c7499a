"""VanillaRNN is a drop-in for torch.nn.RNN, and stands on its own feet."""

import copy
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from sampling import pairwise
from torch import Tensor
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import bptt_lab
import bptt_lab.gradients
from bptt_lab import VanillaRNN
from bptt_lab.core.kernels import core
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.checkpointed import Checkpointed
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.truncated import Truncated

L, N, I, H = 6, 3, 3, 4


def twins(*args, **kwargs) -> tuple[torch.nn.RNN, VanillaRNN]:
    """Both classes, made alike under the same seed."""
    made = []
    for cls in (torch.nn.RNN, VanillaRNN):
        torch.manual_seed(0)
        made.append(cls(*args, **kwargs))
    return tuple(made)


def make_input(layout: str) -> Tensor | PackedSequence:
    torch.manual_seed(1)
    if layout.startswith("unbatched"):
        return torch.randn(L, I, requires_grad=True)
    if layout == "batch_first":
        return torch.randn(N, L, I, requires_grad=True)
    if layout == "time_first":
        return torch.randn(L, N, I, requires_grad=True)
    padded = torch.randn(L, N, I, requires_grad=True)
    lengths = [6, 4, 1] if layout == "packed_sorted" else [2, 6, 3]
    return pack_padded_sequence(padded, lengths, enforce_sorted=layout == "packed_sorted")


def tensors(output: Tensor | PackedSequence) -> Tensor:
    return output.data if isinstance(output, PackedSequence) else output


LAYOUTS = [
    "time_first",
    "batch_first",
    "unbatched",
    "unbatched, batch_first",
    "packed_sorted",
    "packed_unsorted",
]


@pytest.mark.parametrize(
    ("num_layers", "layout", "nonlinearity", "bias", "with_hx", "dropout"),
    pairwise([1, 2, 3], LAYOUTS, ["tanh", "relu"], [True, False], [False, True], [0.0, 0.5]),
)
def test_outputs_and_gradients_are_those_of_torch(
    num_layers, layout, nonlinearity, bias, with_hx, dropout
):
    dropout = dropout if num_layers > 1 else 0.0
    results = []
    for rnn in twins(I, H, num_layers, nonlinearity, bias, "batch_first" in layout, dropout):
        rnn.eval()
        input, hx = make_input(layout), None
        leaf = input
        if isinstance(input, PackedSequence):
            leaf = input.data.detach().requires_grad_()
            input = PackedSequence(leaf, *input[1:])
        if with_hx:
            shape = (num_layers, H) if layout.startswith("unbatched") else (num_layers, N, H)
            hx = torch.randn(shape, requires_grad=True)
        output, h_n = rnn(input, hx)
        (tensors(output).square().sum() + (2 * h_n).sin().sum()).backward()
        leaves = [*rnn.parameters(), leaf, *([hx] if with_hx else [])]
        results.append((output, h_n, [leaf.grad for leaf in leaves]))
    (output, h_n, grads), (our_output, our_h_n, our_grads) = results
    assert type(our_output) is type(output)
    if isinstance(output, PackedSequence):
        for ours, theirs in zip(our_output[1:], output[1:], strict=True):
            assert torch.equal(ours, theirs) if theirs is not None else ours is None
    torch.testing.assert_close(tensors(our_output), tensors(output), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(our_h_n, h_n, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(our_grads, grads, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_first", [False, True])
def test_input_in_any_memory_layout(batch_first):
    rnn = VanillaRNN(I, H, 2, batch_first=batch_first, dtype=torch.float64)
    input = torch.randn(I, N, L, dtype=torch.float64).permute(2, 1, 0)
    hx = torch.randn(2, 1, H, dtype=torch.float64).expand(-1, L if batch_first else N, -1)
    for one, other in zip(rnn(input, hx), rnn(input.contiguous(), hx.contiguous()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_state_dicts_load_both_ways(num_layers, bias):
    theirs, ours = twins(I, H, num_layers, bias=bias)
    for source, target in ((theirs, ours), (ours, theirs)):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.normal_()
        target.load_state_dict(source.state_dict(), strict=True)
        assert list(source.state_dict()) == list(target.state_dict())
        assert all(map(torch.equal, source.parameters(), target.parameters()))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_default_initialisation_is_that_of_torch(num_layers, nonlinearity):
    theirs, ours = twins(I, H, num_layers, nonlinearity)
    assert all(map(torch.equal, theirs.parameters(), ours.parameters()))
    for rnn in (theirs, ours):
        torch.manual_seed(3)
        rnn.reset_parameters()
    assert all(map(torch.equal, theirs.parameters(), ours.parameters()))


def test_settings_are_kept_under_the_names_of_torch():
    theirs, ours = twins(I, H, 2, "relu", False, True, 0.5)
    for name in (*torch.nn.RNN.__constants__, "nonlinearity", "training"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("nonlinearity", ["identity", "sigmoid"])
def test_initialisation_does_not_depend_on_the_nonlinearity(nonlinearity):
    _, tanh = twins(I, H, 2)
    torch.manual_seed(0)
    other = VanillaRNN(I, H, 2, nonlinearity)
    assert all(map(torch.equal, tanh.parameters(), other.parameters()))


@pytest.mark.parametrize("layout", ["time_first", "batch_first", "packed_unsorted"])
@pytest.mark.parametrize("gradient", [Full(), Autograd(), Truncated(k=2, mode="lag")])
def test_dropout_scales_what_it_keeps(layout, gradient):
    """With identity weights on top, the output is the dropped state of the first layer."""
    rnn = VanillaRNN(
        I, H, 2, "identity", False, layout == "batch_first", dropout=0.25, gradient=gradient
    )
    torch.nn.init.eye_(rnn.weight_ih_l1)
    torch.nn.init.zeros_(rnn.weight_hh_l1)
    input = make_input(layout)
    kept = tensors(rnn.eval()(input)[0])
    dropped = tensors(rnn.train()(input)[0])
    zeros = dropped == 0
    assert zeros.any() and not zeros.all()
    torch.testing.assert_close(dropped[~zeros], kept[~zeros] / 0.75)
    assert not torch.equal(dropped, tensors(rnn(input)[0])), "the same states dropped twice"


def test_dropout_drops_its_share_independently():
    rnn = VanillaRNN(1, 50, 2, "identity", False, dropout=0.3)
    torch.nn.init.ones_(rnn.weight_ih_l0)
    torch.nn.init.zeros_(rnn.weight_hh_l0)
    torch.nn.init.eye_(rnn.weight_ih_l1)
    torch.nn.init.zeros_(rnn.weight_hh_l1)
    torch.manual_seed(0)
    dropped = (rnn(torch.ones(40, 30, 1))[0] == 0).float()
    assert abs(float(dropped.mean()) - 0.3) < 0.01
    for axis in range(3):
        others = tuple(d for d in range(3) if d != axis)
        assert dropped.mean(others).min() > 0.2 and dropped.mean(others).max() < 0.4
        assert (dropped.std(axis) > 0).float().mean() > 0.99, "shared along an axis"


def test_dropout_of_everything_and_after_the_last_layer():
    rnn = VanillaRNN(I, H, 2, dropout=1.0)
    second = VanillaRNN(H, H)
    second.load_state_dict(
        {k.replace("l1", "l0"): v for k, v in rnn.state_dict().items() if "l1" in k}
    )
    input = torch.randn(L, N, I)
    expected, _ = second(torch.zeros(L, N, H))
    torch.testing.assert_close(rnn(input)[0], expected)
    with pytest.warns(UserWarning, match="dropout option adds dropout"):
        first = VanillaRNN(I, H, dropout=0.5)
    assert torch.equal(first(input)[0], first.eval()(input)[0])


zeros = torch.zeros
PACKED = pack_sequence([zeros(3, I), zeros(2, I)])
MISUSES = {
    "input 1-D": lambda cls: cls(I, H)(zeros(I)),
    "input 4-D": lambda cls: cls(I, H)(zeros(1, L, N, I)),
    "input of another size": lambda cls: cls(I, H)(zeros(L, N, 7)),
    "unbatched input of another size": lambda cls: cls(I, H)(zeros(L, 7)),
    "packed input of another size": lambda cls: cls(I, H)(pack_sequence([zeros(2, 7)])),
    "input of another dtype": lambda cls: cls(I, H)(zeros(L, N, I, dtype=torch.float64)),
    "input of integers": lambda cls: cls(I, H)(zeros(L, N, I, dtype=torch.int64)),
    "packed input of another dtype": lambda cls: cls(I, H)(PACKED.to(torch.float64)),
    "input a list": lambda cls: cls(I, H)([[0.0]]),
    "no input": lambda cls: cls(I, H)(None),
    "no steps": lambda cls: cls(I, H)(zeros(0, N, I)),
    "no steps, batch first": lambda cls: cls(I, H, batch_first=True)(zeros(N, 0, I)),
    "no steps, unbatched": lambda cls: cls(I, H)(zeros(0, I)),
    "hx of another depth": lambda cls: cls(I, H)(zeros(L, N, I), zeros(2, N, H)),
    "hx of another batch": lambda cls: cls(I, H)(zeros(L, N, I), zeros(1, N + 1, H)),
    "hx of another size": lambda cls: cls(I, H)(zeros(L, N, I), zeros(1, N, H + 1)),
    "hx 2-D": lambda cls: cls(I, H)(zeros(L, N, I), zeros(1, H)),
    "hx for time first": lambda cls: cls(I, H, batch_first=True)(zeros(N, L, I), zeros(1, L, H)),
    "unbatched, hx 3-D": lambda cls: cls(I, H)(zeros(L, I), zeros(1, N, H)),
    "unbatched, hx of another depth": lambda cls: cls(I, H)(zeros(L, I), zeros(2, H)),
    "packed, hx of another batch": lambda cls: cls(I, H)(PACKED, zeros(1, 3, H)),
    "packed, hx 2-D": lambda cls: cls(I, H)(PACKED, zeros(1, H)),
    "hx of another dtype": lambda cls: cls(I, H)(
        zeros(L, N, I), zeros(1, N, H, dtype=torch.float64)
    ),
    "packed, hx of another dtype": lambda cls: cls(I, H)(
        PACKED, zeros(1, 2, H, dtype=torch.float64)
    ),
    "hx a tuple": lambda cls: cls(I, H)(zeros(L, N, I), (zeros(1, N, H),)),
    "input_size 0": lambda cls: cls(0, H),
    "input_size a text": lambda cls: cls("3", H),
    "hidden_size 0": lambda cls: cls(I, 0),
    "hidden_size negative": lambda cls: cls(I, -1),
    "hidden_size a float": lambda cls: cls(I, 4.0),
    "num_layers 0": lambda cls: cls(I, H, 0),
    "num_layers a float": lambda cls: cls(I, H, 1.5),
    "bias an integer": lambda cls: cls(I, H, bias=1),
    "batch_first an integer": lambda cls: cls(I, H, batch_first=1),
    "dropout 2": lambda cls: cls(I, H, 2, dropout=2),
    "dropout negative": lambda cls: cls(I, H, 2, dropout=-0.1),
    "dropout a boolean": lambda cls: cls(I, H, 2, dropout=True),
    "dropout a text": lambda cls: cls(I, H, 2, dropout="0.5"),
    "dropout None": lambda cls: cls(I, H, 2, dropout=None),
    "dropout with one layer": lambda cls: cls(I, H, 1, dropout=0.5),
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES)
def test_misuse_is_refused_as_torch_refuses_it(misuse):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning is compared as an error is
        with pytest.raises(Exception) as theirs:
            misuse(torch.nn.RNN)
        with pytest.raises(type(theirs.value)) as ours:
            misuse(VanillaRNN)
    assert type(ours.value) is type(theirs.value)
    if "the same dtype" in str(ours.value):  # torch's words are its matrix product's
        assert "the same dtype" in str(theirs.value)
    else:
        assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("unknown", ["selu", "Tanh", "", None])
def test_unknown_nonlinearity_is_refused_naming_the_known(unknown):
    with pytest.raises(ValueError, match=f"Unknown nonlinearity '{unknown}'") as refusal:
        VanillaRNN(I, H, nonlinearity=unknown)
    with pytest.raises(ValueError, match=f"Unknown nonlinearity '{unknown}'"):
        VanillaRNN(I, H).nonlinearity = unknown
    for known in ("tanh", "relu", "identity", "sigmoid"):
        assert known in str(refusal.value)


@pytest.mark.parametrize("leak", [0, -0.5, 1.5, float("nan"), float("inf"), "0.5", None])
def test_leak_outside_its_range_is_refused(leak):
    with pytest.raises(ValueError, match="leak="):
        VanillaRNN(I, H, leak=leak)
    rnn = VanillaRNN(I, H)
    with pytest.raises(ValueError, match="leak="):
        rnn.leak = leak
    rnn.leak = 1
    assert rnn.leak == 1.0 and isinstance(rnn.leak, float)


def test_an_empty_batch_is_no_misuse():
    for rnn in twins(I, H, 2):
        output, h_n = rnn(zeros(L, 0, I))
        assert output.shape == (L, 0, H) and h_n.shape == (2, 0, H)


def test_shapes_on_the_meta_device():
    for rnn in twins(I, H, 2, device="meta"):
        output, h_n = rnn(zeros(L, N, I, device="meta"))
        assert output.shape == (L, N, H) and h_n.shape == (2, N, H)


def test_repr_reads_as_torch_and_names_the_gradient():
    theirs, ours = twins(I, H, 2, "tanh", False, True, 0.5)
    assert repr(ours).startswith("Vanilla" + repr(theirs)[:-1] + ", gradient=")
    rnn = VanillaRNN(I, H, nonlinearity="sigmoid", leak=0.5, gradient=Truncated(k=3, mode="lag"))
    assert repr(rnn) == (
        "VanillaRNN(3, 4, nonlinearity=sigmoid, leak=0.5, gradient=Truncated(k=3, mode='lag'))"
    )


@pytest.mark.parametrize("gradient", [Full(), Autograd(), Truncated()])
def test_repr_is_the_same_in_every_run(gradient):
    assert " at 0x" not in repr(VanillaRNN(I, H, gradient=gradient))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda rnn: pickle.loads(pickle.dumps(rnn))])
def test_copies_are_independent_and_equal(copier):
    rnn = VanillaRNN(I, H, 2, "relu", leak=0.5, gradient=Truncated(k=2, mode="lag"))
    twin, input = copier(rnn), torch.randn(L, N, I)
    for net in (rnn, twin):
        net(input)[0].sum().backward()
    assert repr(twin) == repr(rnn)
    for ours, theirs in zip(rnn.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    with torch.no_grad():
        twin.weight_hh_l0.zero_()
    assert rnn.weight_hh_l0.any()


class Half(torch.nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


@pytest.mark.parametrize("gradient", [Full(), Autograd()])
def test_a_parametrized_recurrent_matrix(gradient):
    rnn = VanillaRNN(I, H, 2, dtype=torch.float64, gradient=gradient)
    plain = copy.deepcopy(rnn)
    with torch.no_grad():
        plain.weight_hh_l0.div_(2)
    parametrize.register_parametrization(rnn, "weight_hh_l0", Half())
    input = torch.randn(L, N, I, dtype=torch.float64)
    for net in (rnn, plain):
        net(input)[0].square().sum().backward()
    original = rnn.parametrizations.weight_hh_l0.original
    torch.testing.assert_close(original.grad, plain.weight_hh_l0.grad / 2)
    torch.testing.assert_close(rnn.weight_hh_l1.grad, plain.weight_hh_l1.grad)


def test_orthogonal_parametrization_and_functional_call():
    rnn = VanillaRNN(I, H, dtype=torch.float64)
    input = torch.randn(L, N, I, dtype=torch.float64)
    weights = {name: torch.randn_like(p).requires_grad_() for name, p in rnn.named_parameters()}
    output, _ = torch.func.functional_call(rnn, weights, (input,))
    rnn.load_state_dict(weights)
    torch.testing.assert_close(output, rnn(input)[0])
    output.sum().backward()
    assert all(w.grad is not None for w in weights.values()) and rnn.weight_hh_l0.grad is None

    torch.nn.utils.parametrizations.orthogonal(rnn, "weight_hh_l0")
    W = rnn.weight_hh_l0
    torch.testing.assert_close(W @ W.T, torch.eye(H, dtype=torch.float64))
    rnn(input)[0].sum().backward()
    assert rnn.parametrizations.weight_hh_l0.original.grad.any()


def squared_gradient_norm(rnn: VanillaRNN) -> Tensor:
    torch.manual_seed(2)
    loss = rnn(torch.randn(L, N, I, dtype=torch.float64))[0].square().sum()
    gradients = torch.autograd.grad(loss, list(rnn.parameters()), create_graph=True)
    return sum(g.square().sum() for g in gradients)


def test_autograd_can_be_differentiated_twice():
    rnn = VanillaRNN(I, H, dtype=torch.float64, leak=0.5, gradient=Autograd())
    squared_gradient_norm(rnn).backward()
    entry, eps, norms = rnn.weight_hh_l0.data[0, 1], 1e-5, []
    for step in (eps, -2 * eps):
        entry += step
        norms.append(float(squared_gradient_norm(rnn).detach()))
    slope = (norms[0] - norms[1]) / (2 * eps)
    assert float(rnn.weight_hh_l0.grad[0, 1]) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("gradient", [Full(), Truncated(k=2, mode="lag"), RTRL()])
@pytest.mark.parametrize("leak", [1.0, 0.5])
def test_the_output_is_what_backward_reads_as_the_docstring_says(gradient, leak):
    """Autograd and Checkpointed return copies, as nn.RNN does; of the others a clone is one."""
    input = torch.randn(L, N, I, dtype=torch.float64)

    def gradient_after(strategy, change) -> Tensor:
        torch.manual_seed(0)
        rnn = VanillaRNN(I, H, leak=leak, dtype=torch.float64, gradient=strategy)
        output, _ = rnn(input)
        loss = output.sum()
        change(output)
        loss.backward()
        return rnn.weight_hh_l0.grad

    clean = gradient_after(gradient, lambda output: None)
    changed = gradient_after(gradient, lambda output: output.data.mul_(2))
    assert not torch.allclose(clean, changed)
    assert torch.equal(clean, gradient_after(gradient, lambda o: o.clone().data.mul_(2)))
    for copying in (Autograd(), Checkpointed()):
        clean = gradient_after(copying, lambda output: None)
        assert torch.equal(clean, gradient_after(copying, lambda o: o.data.mul_(2)))


@pytest.mark.parametrize("gradient", [Full(), Autograd(), Truncated(k=L, mode="window")])
@pytest.mark.parametrize("spoil", ["output", "weight", "input", "hx", "h_n"])
def test_changes_in_place_are_right_or_refused(gradient, spoil):
    """Between forward and backward: never a silently wrong gradient."""
    rnn = VanillaRNN(I, H, 2, dtype=torch.float64, gradient=gradient)
    input, hx = (torch.randn(shape, dtype=torch.float64) for shape in ((L, N, I), (2, N, H)))

    def run() -> dict[str, Tensor]:
        parts = {"input": input.clone(), "hx": hx.clone(), "weight": rnn.weight_hh_l0}
        parts["output"], parts["h_n"] = rnn(parts["input"], parts["hx"])
        return parts

    def gradients_of(parts: dict[str, Tensor]) -> list[Tensor]:
        rnn.zero_grad()
        (parts["output"].square().sum() + parts["h_n"].sum()).backward()
        return [parameter.grad for parameter in rnn.parameters()]

    parts = run()
    if spoil in ("output", "h_n"):
        parts[spoil] = 2 * parts[spoil]
    expected = gradients_of(parts)
    parts = run()
    try:
        with torch.set_grad_enabled(spoil != "weight"):
            parts[spoil].mul_(2)
        actual = gradients_of(parts)
    except RuntimeError as refusal:
        assert "inplace" in str(refusal)
    else:
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("gradient", [Full(), Autograd()])
def test_an_attached_hx_carries_credit_between_calls(gradient):
    rnn = VanillaRNN(I, H, 2, dtype=torch.float64, gradient=gradient)
    input = torch.randn(L, N, I, dtype=torch.float64)
    rnn(input)[0].square().sum().backward()
    whole = [p.grad.clone() for p in rnn.parameters()]
    rnn.zero_grad()
    first, h_n = rnn(input[:4])
    second, _ = rnn(input[4:], h_n)
    torch.cat([first, second]).square().sum().backward()
    torch.testing.assert_close([p.grad for p in rnn.parameters()], whole)


def test_one_matrix_in_two_layers_gets_both_gradients():
    theirs, ours = twins(I, H, 2, dtype=torch.float64)
    input = torch.randn(L, N, I, dtype=torch.float64)
    for rnn in (theirs, ours):
        rnn.weight_hh_l1 = rnn.weight_hh_l0
        rnn(input)[0].square().sum().backward()
    torch.testing.assert_close(ours.weight_hh_l0.grad, theirs.weight_hh_l0.grad)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = ["lightning", "pytorch_lightning", "hydra", "omegaconf"]


@pytest.mark.parametrize(
    "statement, unwanted",
    [
        ("import bptt_lab, bptt_lab.gradients", [*HEAVY, "torch"]),
        ("from bptt_lab import *; from bptt_lab.gradients import *", HEAVY),
    ],
)
def test_importing_is_light(statement, unwanted):
    loaded = f"[name for name in {unwanted} if name in sys.modules]"
    assert run_python(f"import sys\n{statement}\nprint({loaded})") == "[]"


@pytest.mark.parametrize(
    "package, names",
    [
        (bptt_lab, "VanillaRNN segmented_loss initialise"),
        (
            bptt_lab.gradients,
            "Full Truncated RTRL SnAp1 UORO KFRTRL RFLO ARTBP Adaptive Checkpointed Autograd "
            "ForwardGradient PES FeedbackAlignment CreditClip GradientStrategy Carry Unrolled "
            "OnlineBPTT SketchedRTRL SparseRTRL FutureFacing PerUnroll OneSweep PastFacing "
            "Modifier Stack Chunk",
        ),
    ],
)
def test_the_packages_names(package, names):
    """One spelling each, listed before they are imported."""
    assert set(names.split()) == set(package.__all__) - {"__version__"}
    assert [name for name in dir(package) if not name.startswith("__")] == sorted(
        set(package.__all__) - {"__version__"}
    )
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'LSTM'"):
        bptt_lab.LSTM  # noqa: B018


@pytest.mark.parametrize(
    "gradient, way_out",
    [
        (
            "truncated",
            r"use gradient=Truncated\(\.\.\.\), from bptt_lab.gradients import Truncated$",
        ),
        ("kf_rtrl", r"use gradient=KFRTRL\(\.\.\.\), from bptt_lab.gradients import KFRTRL$"),
        ("nonsense", "from bptt_lab.gradients import "),
        (Truncated, r"must be a strategy object; use gradient=Truncated\(\.\.\.\)"),
        (GradientStrategy, "must be a strategy object"),
        (16, "must be a strategy object"),
        ("x" * 5000, "must be a strategy object"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_gradient_that_is_no_object_is_refused_at_once(gradient, way_out):
    with pytest.raises(TypeError, match=way_out) as refusal:
        VanillaRNN(I, H, gradient=gradient)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300
    rnn = VanillaRNN(I, H)
    with pytest.raises(TypeError, match=way_out):
        rnn.gradient = gradient
    assert isinstance(rnn.gradient, Full)


def test_bidirectional_is_taken_where_it_says_nothing():
    for rnn in (
        VanillaRNN(I, H, bidirectional=False),
        VanillaRNN(I, H, 1, "tanh", True, False, 0.0, False),
    ):
        assert rnn.leak == 1 and not rnn.bidirectional
    with pytest.raises(ValueError, match=r"bidirectional=True: must be False.*input\.flip\(0\)"):
        VanillaRNN(I, H, 1, "tanh", True, False, 0.0, True)
    with pytest.raises(ValueError, match="bidirectional=True: must be False"):
        VanillaRNN(I, H, bidirectional=True)


@pytest.mark.parametrize("gradient", [Full(), Truncated(k=2, mode="lag"), Checkpointed(every=2)])
def test_a_layer_in_front_under_autocast(gradient):
    layer, rnn = torch.nn.Linear(I, I), VanillaRNN(I, H, gradient=gradient)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = rnn(layer(torch.randn(L, N, I)))
    output.float().sum().backward()
    assert rnn.weight_hh_l0.grad.dtype == layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("name, shape", [("weight_ih_l0", (H, I - 1)), ("bias_ih_l0", (1,))])
def test_parameters_of_another_shape_are_refused(name, shape):
    rnn = VanillaRNN(I, H)
    setattr(rnn, name, torch.nn.Parameter(torch.randn(shape)))
    if name.startswith("bias") and not core.available():
        pytest.skip("torch's operations stretch a bias of one")
    with pytest.raises(RuntimeError):
        rnn(torch.randn(L, N, I))


def test_window_takes_an_empty_batch():
    rnn = VanillaRNN(I, H, gradient=Truncated(k=3, mode="window"))
    rnn(torch.randn(7, 0, I))[0].sum().backward()
    assert not rnn.weight_hh_l0.grad.any()


def test_a_carry_is_no_state() -> None:
    rnn = VanillaRNN(2, 3)
    _, carry = rnn.unroll(torch.zeros(4, 1, 2))
    with pytest.raises(TypeError, match=r"use rnn.unroll\(input, carry\)"):
        rnn(torch.zeros(4, 1, 2), carry)
