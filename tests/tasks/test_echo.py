import pytest
import torch

from bptt_lab.tasks.echo import Echo, echo
from tasks.predictors import agree, logits, measure


def law(short: torch.Tensor, long: torch.Tensor) -> torch.Tensor:
    return 0.5 + 0.5 * short - 0.25 * long


def test_answers_follow_the_law_and_nothing_else():
    bits, answers = echo(2000, 100, torch.Generator().manual_seed(0))
    now, short, long = bits[8:], bits[5:-3], bits[:-8]
    for x0 in (0, 1):
        for x3 in (0, 1):
            for x8 in (0, 1):
                case = (now == x0) & (short == x3) & (long == x8)
                share = answers[8:][case].double().mean()
                assert share == pytest.approx(law(x3, x8), abs=0.01), (x0, x3, x8)
    assert bits.double().mean() == pytest.approx(0.5, abs=0.005)


def test_law_holds_from_the_first_step():
    bits, answers = echo(5, 200000, torch.Generator().manual_seed(0))
    shares = answers.double().mean(1)
    assert (shares - 0.625).abs().max() < 0.006  # what lies before the stream is random too
    for t in (3, 4):
        assert answers[t][bits[t - 3] == 1].double().mean() == pytest.approx(0.875, abs=0.005)


def test_documented_floors():
    references = Echo().references()
    assert list(references) == ["chance", "lag 3 learnt", "lag 3 and 8 learnt"]
    losses = [values["loss"] for values in references.values()]
    assert losses == pytest.approx([0.6616, 0.5192, 0.4545], abs=5e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_mse"])
def test_floors_are_what_the_best_predictors_reach(loss):
    task = Echo(stream_length=4000, batch_size=50, loss=loss)
    bits = task.sequences("test", 0).input.double()
    short, long = bits.roll(3, 0), bits.roll(8, 0)  # wrong in the first 8 steps: skipped
    half = torch.full_like(bits, 0.5)
    ones = {
        "chance": law(half, half),
        "lag 3 learnt": law(short, half),
        "lag 3 and 8 learnt": law(short, long),
    }
    assert ones.keys() == task.references().keys()
    for name, chance in ones.items():
        measured = measure(task, logits(torch.stack((1 - chance, chance), -1)), skip=8)
        agree(measured, task.references()[name], 50 * 3992)


def test_streams_are_parallel_new_every_epoch_and_cut_in_chunks():
    task = Echo(stream_length=25, batch_size=4)
    batches = list(task.train_dataloader())
    assert [len(batch.input) for batch in batches] == [10, 10, 5]
    assert [batch.is_first for batch in batches] == [True, False, False]
    bits = torch.cat([batch.input for batch in batches]).argmax(-1)
    assert torch.equal(bits, task.sequences("train", 0).input)
    drawn = [bits, task.sequences("train", 1).input, task.sequences("val", 0).input]
    drawn += [
        task.sequences("test", 0).input,
        Echo(stream_length=25, batch_size=4, seed=1).sequences("train", 0)[0],
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[i + 1 :])
