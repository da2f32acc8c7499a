"""What docs/choosing.md says of each strategy is what happens; its pictures name what there is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import outside_strategies
import pytest
import torch
from torch import nn

from bptt_lab import VanillaRNN
from bptt_lab.config.strategies import packaged
from bptt_lab.gradients import Autograd, Full, Truncated
from bptt_lab.gradients.oracle import masked_gradient, terms

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "site"))
import decision
import masks
import speed
import support

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tried() -> list[support.Row]:
    quick = ("second derivative", "torch.func")
    return support.rows({**support.TRAINING, **{head: support.TOOLS[head] for head in quick}})


def test_what_was_tried_is_what_the_classes_claim(tried: list[support.Row]) -> None:
    for row in tried:
        own, answers = row.strategy, {head: answer.word for head, answer in row.answers.items()}
        assert (answers["layers"] == support.YES) == (own.max_layers is None), row.name
        assert answers["dropout"] == answers["layers"], row.name
        assert (answers["input's gradient"] == support.YES) == own.input_gradient, row.name
        assert (answers["across chunks"] == support.YES) == own.carries_influence, row.name
        assert (answers["second derivative"] == support.YES) == own.twice_differentiable, row.name
        assert (answers["fleet"] == support.NO) == (not own.fuses), row.name
        assert answers["packed"] == answers["autocast"] == support.YES, row.name
        assert (answers["torch.func"] == support.YES) == isinstance(own, Autograd), row.name


def test_a_refusal_is_a_line_with_a_way_out(tried: list[support.Row]) -> None:
    refused = [
        answer for row in tried for answer in row.answers.values() if answer.word == support.NO
    ]
    said = [answer.refusal for answer in refused if answer.refusal]
    assert said and all("; use " in line or "; do it " in line for line in said)


def test_every_option_is_tried_and_has_a_line(tried: list[support.Row]) -> None:
    names = {path.stem for path in (ROOT / "conf" / "gradient").glob("*.yaml")}
    assert {row.name for row in tried} == names
    table = support.support(tried)
    assert all(f"| `{name}` |" in table for name in names)


def test_a_strategy_of_ones_own_is_tried_as_the_others() -> None:
    class OneLayer(outside_strategies.Good):
        def states(self, rnn, *arguments):
            if rnn.num_layers > 1:
                raise ValueError("num_layers: must be 1; use gradient=full")
            return super().states(rnn, *arguments)

    answer = support.tried(support.layers, OneLayer())
    assert answer == (support.NO, "num_layers: must be 1; use gradient=full")
    assert support.tried(support.packed, OneLayer()).word == support.YES
    assert support.tried(support.fleet, OneLayer()).word == support.YES  # its own backward pass


def test_a_gradient_that_is_missing_ends_the_build() -> None:
    class Silent(outside_strategies.Good):
        def assign(self, stack):
            return [swept._replace(grad_weight_hh=None) for swept in super().assign(stack)]

    with pytest.raises(AssertionError, match="weight_hh_l0"):
        support.tried(support.packed, Silent())


@pytest.mark.parametrize("mode", ["lag", "window", "tail"])
def test_truncation_in_other_modes_sweeps_one_by_one_in_a_fleet(mode: str) -> None:
    assert support.tried(support.fleet, Truncated(k=3, mode=mode)).word == support.YES


@pytest.mark.slow  # torch's compiler takes seconds to load
def test_what_torch_can_record() -> None:
    heads = ("torch.export", "torch.compile")
    for row in support.rows({head: support.TOOLS[head] for head in heads}):
        exact = row.strategy.exact_within_chunk
        assert (row.answers["torch.export"].word == support.YES) == exact, row.name
        whole = isinstance(row.strategy, Autograd)
        assert (row.answers["torch.compile"].word == support.YES) == whole, row.name


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = VanillaRNN(2, 8, gradient=Truncated(k=3))
        self.readout = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.readout(self.rnn(x)[0]))


def _gradients(net: nn.Module, run: nn.Module) -> list[torch.Tensor]:
    net.zero_grad()
    run(torch.ones(9, 3, 2)).square().sum().backward()
    return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler says at length where it gives up
@pytest.mark.parametrize("kept_out", [False, True])
def test_a_compiled_model_has_the_same_gradient(kept_out: bool) -> None:
    net = _Net()
    plain = _gradients(net, net)
    if kept_out:
        net.rnn.forward = torch.compiler.disable(net.rnn.forward)
    torch.compiler.reset()
    compiled = _gradients(net, torch.compile(net, backend="eager"))
    assert all(torch.equal(one, other) for one, other in zip(plain, compiled, strict=True))


def test_the_page_states_each_claim_as_the_class_does(tried: list[support.Row]) -> None:
    stated = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE, re.MULTILINE))
    assert stated == {row.name: row.strategy.claim for row in tried}


def test_the_decision_names_options_that_there_are() -> None:
    names = [question.strategy for question in decision.QUESTIONS]
    hints = [question.hint for question in decision.QUESTIONS]
    assert {*names, decision.LAST[0]} <= {*packaged().trusted()}
    for name in ("adaptive", "kf_rtrl", "rflo"):
        assert name in " ".join([*hints, decision.LAST[1]]) and name in packaged().trusted()
    texts = {text.get_text() for text in decision.decision().axes[0].texts}
    assert {*names, *hints, *decision.LAST} <= texts


@pytest.mark.parametrize("strategy", [Full(), Truncated(k=3, mode="lag"), Truncated(k=2)])
def test_in_chunks_a_mask_is_the_gradient_of_the_sum_over_chunks(strategy) -> None:
    rnn = VanillaRNN(2, 3, gradient=strategy, dtype=torch.float64)
    x, carry = torch.randn(9, 1, 2, dtype=torch.float64), None
    for chunk in x.split(4):
        output, carry = rnn.unroll(chunk, carry)
        output.square().sum().backward()
    found = terms(rnn, x, lambda output: output.square().sum())
    kept = masked_gradient(found, masks.in_chunks(strategy, 9, 4))
    torch.testing.assert_close(rnn.weight_hh_l0.grad, kept["weight_hh_l0"], rtol=1e-10, atol=0)


def test_the_weights_of_a_random_cut_are_those_of_its_sweep() -> None:
    strategy = masks.ARTBP(mean_length=3)
    rnn = VanillaRNN(1, 1, nonlinearity="identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        rnn.weight_hh_l0.fill_(1)  # c_s is then the sum over t of the weights
    hx, ones = torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(7, 1, 1, dtype=torch.float64)
    credit = strategy.credit(rnn, ones, hx, ones)[0, :, 0, 0]
    keep = strategy.factors(7, 0)
    uniforms = [0.0 if factor == 0 else 1.0 for factor in keep[1:]]
    assert 0.0 in uniforms and 1.0 in uniforms
    torch.testing.assert_close(masks.artbp_weights(strategy, uniforms).sum(0), credit)


def test_the_table_of_what_losses_see_counts_the_mask() -> None:
    table = masks.seen({"a": Truncated(k=4, mode="lag"), "b": Truncated(k=4, mode="tail")}, 12)
    assert (
        "| a | 1 to 4 | 3.50 | 42 of 78 |" in table and "| b | 0 to 4 | 0.83 | 10 of 78 |" in table
    )


def test_pictures_of_speed_hold_every_number_of_the_file() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    (drawn_from,) = re.findall(r'speed\.read\("(.*)"\)', page)
    (printed_from,) = re.findall(r"<!-- speed: (\S+) -->", page)
    assert drawn_from == printed_from
    rows = speed.read(drawn_from)
    (axes,) = speed.times_as_fast(rows, threads=1).axes
    drawn = {round(float(line.get_xdata()[0]), 4) for line in axes.lines}
    ratios = {
        round(float(row["times_as_fast_min"]), 4)
        for row in rows
        if row["threads"] == "1" and row["implementation"] != speed.BASELINE
    }
    assert ratios <= drawn
    peaks = [text.get_text() for text in speed.memory(rows).axes[0].texts]
    assert peaks == sorted(peaks, key=float) and len(peaks) == 5
