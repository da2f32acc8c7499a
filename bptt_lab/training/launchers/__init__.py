"""Launchers: how the jobs of a sweep are run, each in a process of its own."""
