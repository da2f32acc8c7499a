"""Pictures in pages: a figure as SVG within the page."""

from __future__ import annotations

import html
import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure


def figure(fig: Figure, alt: str) -> str:
    """Return a figure as inline SVG, at most as wide as the page.

    Args:
        fig: The figure.
        alt: What it shows, for those who do not see it.
    """
    file = io.StringIO()
    with rc_context({"svg.hashsalt": alt}):  # the names inside differ from other pictures' names
        fig.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = file.getvalue()[file.getvalue().index("<svg") :]
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', svg[:600])[:2]
    svg = svg.replace(f'width="{width}pt" height="{height}pt"', "", 1)
    style = f"width:{float(width) * 4 / 3:.0f}px"  # 96 pixels are 72 points
    label = html.escape(alt, quote=True)
    named = f'<svg role="img" aria-label="{label}" style="{style}" '
    return f'<figure class="picture">{svg.replace("<svg ", named, 1)}</figure>'
