"""The contract of every gradient strategy, for strategies from anywhere.

    pytest --pyargs bptt_lab.conformance --bptt-strategy mypkg.my:Strategy

makes every check of a strategy of your own, in seconds; the module must be importable (installed,
or in the current folder). After the colon stands a class that needs no settings, or an object that
you made: `--bptt-strategy mypkg.my:with_my_settings`. What a package brings by an entry point in
`bptt_lab.gradients` has a name: `--bptt-strategy mine`. Each failure says what is broken, each skip
why a check does not apply. `bptt_lab.conformance.contract.verify(strategy)` returns the same from
Python, without pytest and under `python -O` too.

A check is a function of a strategy. It returns nothing, or raises `Failed` or `Skipped` with a
reason; `verify` makes an `Outcome` of that. What is verified, in float64, follows from what the
strategy claims (`exact_within_chunk`, `exact_across_chunks`, `unbiased`, `linear`, and `mask` where
it states one): each claim, and that what is not claimed is visibly not so; states, gradients and
credit to 1e-10; what backward passes add up to, second derivatives, repeated calls, mixed
precision, frozen parameters, ragged batches, dropout; the carry, its influence and random draws;
refusals on one line. The docstring of each check says more.

What a strategy refuses is not asked of it. Where it draws random numbers, gradients are compared
at the same draw.

The suite has no oracle for a biased rule without a mask: such a rule needs a test of its own. The
mean of an unbiased one is compared over ten steps, and found wrong where it is off by a tenth as a
whole, or by its own noise; a smaller bias, or one at longer lags, needs a test of its own too.
"""
