"""Training: a network, its data and a strategy under Lightning; a sweep's jobs and launchers."""
