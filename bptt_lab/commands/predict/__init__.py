"""The command `bptt-predict`: what a run's network makes of a file."""
