"""The command `bptt-train`: one run, or a sweep of runs."""
