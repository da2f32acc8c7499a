"""Lines of a formula beside its numbers, aligned, for a terminal of 80 columns and more."""

from __future__ import annotations

import textwrap

from torch import Tensor

FORMULA = 43  # columns for the formula, its indent included
WIDTH = 80


class Layout:
    """A text, line by line, its numbers with some digits behind the point."""

    def __init__(self, digits: int) -> None:
        self.digits = digits
        self.lines: list[str] = []

    def heading(self, text: str) -> None:
        """Start a section."""
        self.lines += ["", text, "-" * len(text)]

    def prose(self, text: str) -> None:
        """Add sentences, wrapped."""
        self.lines += textwrap.wrap(" ".join(text.split()), WIDTH)

    def show(self, formula: str, value: Tensor | float) -> None:
        """Add a formula and its value: a number, a vector (2), or a matrix (2, 2) in two lines."""
        left = f"  {formula}".ljust(FORMULA)
        if len(left) > FORMULA:
            self.lines.append(left.rstrip())
            left = " " * FORMULA
        first, *others = self._rows(value)
        self.lines.append(left + first)
        self.lines += [" " * FORMULA + row for row in others]

    def _number(self, value: float) -> str:
        """Write one number; zero has no sign."""
        text = f"{value:.{self.digits}f}"
        zero = not any(digit in text for digit in "123456789")
        return (text.lstrip("-") if zero else text).rjust(self.digits + 4)

    def _rows(self, value: Tensor | float) -> list[str]:
        if isinstance(value, float) or value.dim() == 0:
            return ["  " + self._number(float(value))]
        rows = value if value.dim() == 2 else value[None]
        return ["[ " + " ".join(self._number(float(v)) for v in row) + " ]" for row in rows]

    def __str__(self) -> str:
        return "\n".join(self.lines)
