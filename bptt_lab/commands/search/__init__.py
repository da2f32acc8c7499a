"""The command `bptt-search`: a sweep whose jobs Optuna chooses, each by what came of those before.

space.py     what is searched: settings and their values, read from the command line
check.py     what can be refused before the first trial
sweeper.py   the search: ask for trials, have a launcher run them, tell what came of them
sampling.py  how values are drawn, always the same ones for the same trial
journal.py   the search's memory, on disk, whole at any moment
best.py      the best trial, and how to run it again
"""
