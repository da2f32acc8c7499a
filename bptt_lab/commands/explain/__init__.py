"""The gradient of one small network, worked out term by term: the command `bptt-explain`."""
