"""The contract of every gradient strategy, for strategies from anywhere.

    pytest --pyargs bptt_lab.conformance --strategy mypkg.my:Strategy

runs every check on a strategy of your own, in seconds; the module must be importable (installed, or
in the current folder). After the colon stands a class that needs no settings, or an object that you
made: `--strategy mypkg.my:with_my_settings`. Each failure says what is broken.

What is checked follows from what the class claims (`exact_within_chunk`, `exact_across_chunks`,
`unbiased`, and `mask` where there is one), all in float64:

    states, and all gradients, against torch.nn.RNN and a slow oracle under the mask, to 1e-10
    exact where it says so, within a chunk and over chunks of 1, 3, 4, 5; visibly not where not
    linear in the loss (unless the class says `linear = False`), a sum over sequences and steps
    repeatable to the last bit, after copying and pickling too; the states it keeps unspoilt
    the carry continues the states; its memory is plain, detached, and each sequence's own
    mixed precision, frozen parameters, ragged batches, dropout, losses of the last state
    random draws by number (`draw`), and their mean full BPTT's gradient if `unbiased`
    refusals on one line that name a strategy that can: stacked layers, gradients of the input

A biased rule without a mask has no oracle here: it needs a test of its own that says what it is
instead. So does an unbiased one, of which some draws can only tell what is badly wrong. In Python:
`for check in bptt_lab.conformance.contract.CHECKS: check(strategy)`; pytest is needed for both.
"""
