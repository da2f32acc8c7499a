"""The command `bptt-search`: a sweep whose jobs Optuna chooses, each by the results so far.

space.py     what is searched: settings and their values, read from the command line
plan.py      a search before its first trial: its space, and what a continued one must share
sweeper.py   the search: ask Optuna for trials, launch them, report their results to it
sampling.py  how values are drawn, always the same ones for the same trial
journal.py   Optuna's journal on disk, readable at any moment
best.py      the best trial, and how to run it again
"""
