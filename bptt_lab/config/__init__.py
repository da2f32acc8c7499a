"""Config: from a command line to a typed, checked experiment. Nothing here imports torch."""
