"""One file a family of claims, each with a sequence `CLAIMS`; `bptt-reproduce` finds them all."""
