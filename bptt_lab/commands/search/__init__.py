"""The command `bptt-search`: a sweep whose jobs Optuna chooses, each by the results so far."""
