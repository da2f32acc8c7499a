"""The command `bptt-horizon`: for each k, the longest delay that a sweep's nets solved."""
