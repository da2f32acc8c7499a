"""The command `bptt-bench`: gradient strategies against torch.nn.RNN, JAX and the machine."""
