"""The contract of every gradient strategy, for strategies from anywhere.

    pytest --pyargs bptt_lab.conformance --bptt-strategy mypkg.my:Strategy

makes every check of a strategy of your own, in seconds; the module must be importable (installed,
or in the current folder). After the colon stands a class that needs no settings, or an object that
you made: `--bptt-strategy mypkg.my:with_my_settings`. Each failure says what is broken, each skip
why a check does not apply. `bptt_lab.conformance.contract.verify(strategy)` returns the same from
Python, without pytest and under `python -O` too.

A check is a function of a strategy. It returns nothing, or raises `Failed` or `Skipped` with a
reason; `verify` makes an `Outcome` of that. What is verified follows from what the strategy claims
(`exact_within_chunk`, `exact_across_chunks`, `unbiased`, `linear`, and `mask` where it states one),
all in float64:

    states, and all gradients, against torch.nn.RNN and a slow oracle under the mask, to 1e-10
    exact where it says so, within a chunk and over chunks of 1, 3, 4, 5; visibly not where not
    linear in the loss where it says so, visibly not where not; a sum over sequences and steps
    under create_graph differentiable again, or refused
    repeatable to the last bit, after copying and pickling too; the states it keeps not changed
    the carry continues the states; its influence is plain, detached, and each sequence's own
    mixed precision, frozen parameters, ragged batches, dropout, losses of the last state
    random draws by number; where `unbiased`, their mean is full BPTT's gradient
    refusals on one line that name a strategy that can: stacked layers, gradients of the input

What a strategy refuses is not asked of it. Where it draws random numbers, gradients are compared
at the same draw.

The suite has no oracle for a biased rule without a mask: such a rule needs a test of its own. The
mean of an unbiased one is compared over ten steps, and found wrong where it is off by a tenth as a
whole, or by its own noise; a smaller bias, or one at longer lags, needs a test of its own too.
"""
