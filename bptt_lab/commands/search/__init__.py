"""The command `bptt-search`: a sweep whose jobs Optuna chooses, each by the results so far.

space.py     what is searched: settings and their values, read from the command line
record.py    what sweep.json says of a search, what a continued one must share, the best trial
sweeper.py   the search: ask Optuna for trials, launch them, report their results to it
sampling.py  how values are drawn, always the same ones for the same trial
journal.py   Optuna's journal on disk, readable at any moment
"""
