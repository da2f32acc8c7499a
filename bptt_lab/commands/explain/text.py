"""A text line by line, each number beside its formula."""

import textwrap

import torch
from torch import Tensor

FORMULA = 43  # columns for the formula, its indent included
WIDTH = 80


class Text:
    """A text whose numbers have some digits behind the point."""

    def __init__(self, digits: int) -> None:
        self.digits = digits
        self.lines: list[str] = []

    def heading(self, text: str) -> None:
        """Start a section."""
        self.lines += ["", text, "-" * len(text)]

    def prose(self, text: str) -> None:
        """Add sentences, wrapped."""
        self.lines += textwrap.wrap(" ".join(text.split()), WIDTH)

    def show(self, formula: str, value: Tensor | float) -> Tensor:
        """Add a formula and its value, (), (2) or (2, 2) in two lines, and return the value."""
        value = torch.as_tensor(value, dtype=torch.float64)
        left = f"  {formula}".ljust(FORMULA)
        if len(left) > FORMULA:
            self.lines.append(left.rstrip())
            left = " " * FORMULA
        rows = value.reshape(-1, value.shape[-1] if value.dim() else 1)
        for row in rows.tolist():
            numbers = " ".join(map(self._number, row))
            self.lines.append(left + (f"[ {numbers} ]" if value.dim() else f"  {numbers}"))
            left = " " * FORMULA
        return value

    def _number(self, value: float) -> str:
        """Write one number; zero has no sign."""
        text = f"{value:.{self.digits}f}"
        zero = not any(digit in text for digit in "123456789")
        return (text.lstrip("-") if zero else text).rjust(self.digits + 4)

    def __str__(self) -> str:
        return "\n".join(self.lines)
