"""The whole contract: checks of one strategy, and checks of a strategy on a net."""

from __future__ import annotations

from bptt_lab.diagnostics.conformance import carrying, checks, drawing
from bptt_lab.diagnostics.conformance.nets import Net

CHECKS = [*checks.BASIC, *carrying.CARRYING, *drawing.DRAWING]
ON_NETS = checks.ON_NETS
NETS = [
    Net(5, 7),
    Net(16, 30, 1, nonlinearity="relu", loss="last"),
    Net(5, 30, num_layers=2, leak=0.5, loss="mean"),
    Net(2, 7, num_layers=3, nonlinearity="relu", leak=0.5),
    Net(1, 7, 1, num_layers=2, nonlinearity="sigmoid", loss="mean"),
    Net(5, 7, 1, num_layers=3, nonlinearity="identity", loss="last"),
    Net(2, 30, nonlinearity="sigmoid", leak=0.5, loss="last"),
    Net(1, 1, 1),
    Net(5, 1, num_layers=2, nonlinearity="relu", leak=0.5, loss="last"),
    Net(2, 2, num_layers=2, nonlinearity="identity", leak=0.5),
    Net(16, 2, 1, num_layers=3, leak=0.5, loss="mean"),
    Net(16, 7, num_layers=2, bias=False),
]
