"""It leaves a word behind when it is imported, for whoever wants to know."""

import os
from pathlib import Path

if "MYPKG_IMPORTED" in os.environ:
    Path(os.environ["MYPKG_IMPORTED"]).touch()
