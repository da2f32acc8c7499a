"""Callbacks: what is watched or kept during a run, one file each."""
