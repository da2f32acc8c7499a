"""Commands: what a console script starts, one folder a command."""
