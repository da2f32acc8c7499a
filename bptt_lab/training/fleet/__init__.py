"""A fleet: the runs of several jobs in one process, step by step side by side."""
