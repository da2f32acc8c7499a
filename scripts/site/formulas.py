"""Formulas as MathML: no script, no font and no network are needed to read them."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

# What pymdownx.arithmatex leaves of $...$ and $$...$$.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def to_mathml(page: str) -> str:
    """A page's HTML with each formula as MathML."""
    return FORMULA.sub(_formula, page)


def _formula(found: re.Match[str]) -> str:
    tag, bracket, latex = found.groups()
    display = "block" if bracket == "[" else "inline"
    mathml = convert(html.unescape(latex).strip(), display=display)
    return f'<{tag} class="formula-{display}">{mathml}</{tag}>'
