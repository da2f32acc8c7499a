"""Real sequences: chorales and Shakespeare, as far as a vanilla network gets.

Both numbers were measured here; the data are those of Boulanger-Lewandowski et al. (2012) and of
Karpathy (2015). Of Shakespeare's text the last 5 % are harder than the 5 % before, by some .15
nats.
"""

from typing import Any

from bptt_lab.commands.reproduce.nets import trained

OURS: Any = {"kind": "regression", "source": "this project", "set_on": range(1), "slow": True}
CLAIMS = [
    trained(
        "music",
        "test/loss",
        (8.3, 8.9),
        "num_threads=1",
        name="jsb_chorales",
        expected="about 8.6 nats a step, 8.3 to 8.9",
        tested_on=range(10, 12),
        file="jsb/jsb-chorales-quarter.json",
        **OURS,
    ),
    trained(
        "text",
        "val/loss",
        (1.44, 1.58),
        "num_threads=1",
        name="tiny_shakespeare",
        expected="about 1.5 nats a character, 1.44 to 1.58, on the 5 % after 90 %",
        tested_on=range(10, 11),
        file="tinyshakespeare/input.txt",
        **OURS,
    ),
]
