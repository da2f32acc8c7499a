"""The command `bptt-league`: error, alignment and cost of a sweep's rules, with statistics."""
