"""The command `bptt-reproduce`: published results, expected against measured."""
