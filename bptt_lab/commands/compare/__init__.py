"""The command `bptt-compare`: all gradient strategies on one batch, their bias and their cost."""
