"""A table that is printed row by row, each as soon as it is known, to a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


class LiveTable:
    """Columns as wide as is said beforehand; a cell that is wider pushes its row to the right.

    Args:
        widths: of the columns, by their heads.
        right: heads of columns whose cells stand at the right.
    """

    def __init__(self, widths: Mapping[str, int], right: Collection[str] = ()) -> None:
        self.format = "  ".join(
            f"{{:{'>' if head in right else '<'}{max(width, len(head))}}}"
            for head, width in widths.items()
        )
        self.heads = list(widths)

    def begin(self) -> None:
        """Print the heads and a rule."""
        self.row(self.heads)
        print("-" * len(self.format.format(*self.heads)), flush=True)

    def row(self, cells: Sequence[str]) -> None:
        """Print one row."""
        print(self.format.format(*cells).rstrip(), flush=True)
