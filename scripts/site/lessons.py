"""Lessons as pages: each docs/lessons/*.py, executed by `make docs`, with its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

LINKS = (
    "[The notebook]({name}.ipynb){{: download }} · [as Python]({name}.py.txt){{: download }}\n\n"
)


def pages(root: Path) -> Iterator[tuple[str, str | bytes]]:
    """The files of all lessons, as (path in the site, content).

    A lesson that build/lessons/ has not executed is shown without its results.
    """
    for source in sorted((root / "docs" / "lessons").glob("[0-9]*.py")):
        executed = root / "build" / "lessons" / f"{source.stem}.ipynb"
        notebook = (
            nbformat.read(executed, as_version=4) if executed.is_file() else jupytext.read(source)
        )
        yield from _page(f"lessons/{source.stem}", notebook)
        yield f"lessons/{source.stem}.ipynb", nbformat.writes(notebook)
        yield f"lessons/{source.stem}.py.txt", source.read_text(encoding="utf-8")


def _page(path: str, notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str | bytes]]:
    name = path.rpartition("/")[2]
    exporter = MarkdownExporter(
        config=Config({"NbConvertBase": {"display_data_priority": PRIORITY}})
    )
    text, resources = exporter.from_notebook_node(notebook, {"unique_key": name})
    title, _, rest = text.lstrip().partition("\n")
    yield f"{path}.md", f"{title}\n\n{LINKS.format(name=name)}{rest}"
    for picture, content in resources.get("outputs", {}).items():
        yield f"lessons/{picture}", content


PRIORITY = ["image/svg+xml", "image/png", "text/markdown", "text/plain"]
