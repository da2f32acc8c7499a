"""One file a topic, each with a sequence `CLAIMS`; `bptt-reproduce` finds them all."""
