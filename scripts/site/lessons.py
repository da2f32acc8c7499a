"""Lessons as pages: each docs/lessons/*.py, executed by `make docs`, with its pictures.

The code of a cell that only draws (`# %% tags=["draws"]`) is folded; its picture is not.
"""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from jinja2 import DictLoader
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
    notebook = copy.deepcopy(notebook)  # what is downloaded has no descriptions
    _describe(notebook)
    exporter = MarkdownExporter(
        config=Config({"NbConvertBase": {"display_data_priority": PRIORITY}}),
        extra_loaders=[DictLoader({"lesson.md.j2": TEMPLATE})],
        template_file="lesson.md.j2",
    )
    text, resources = exporter.from_notebook_node(notebook, {"unique_key": name})
    title, _, rest = text.lstrip().partition("\n")
    yield f"{path}.md", f"{title}\n\n{LINKS.format(name=name)}{rest}"
    for picture, content in resources.get("outputs", {}).items():
        yield f"lessons/{picture}", content


def _describe(notebook: nbformat.NotebookNode) -> None:
    """Give each picture a text for those who do not see it: its titles, or else the heading."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE) or [heading])[-1]
        for output in cell.get("outputs", []):
            if svg := output.get("data", {}).get("image/svg+xml"):
                # matplotlib writes each text of a picture as a comment beside its outlines
                texts = [html.unescape(text) for text in re.findall(r"<!-- (.*?) -->", svg)]
                titles = [text for text in texts if _is_title(text, cell.source)]
                output.metadata["alt"] = re.sub(r"[\[\]]", "", " ".join(titles) or heading)


def _is_title(text: str, source: str) -> bool:
    """Whether a text of a picture is a title in the cell that drew it, f-strings included."""
    for form in re.findall(r'(?:set_title|blank)\(\s*f?"([^"]*)"', source):
        if re.fullmatch(".*".join(map(re.escape, re.split(r"\{[^}]*\}", form))), text):
            return True
    return False


PRIORITY = ["image/svg+xml", "image/png", "text/markdown", "text/plain"]
TEMPLATE = """
{%- extends "markdown/index.md.j2" -%}
{%- block input -%}
{%- if "draws" in cell.metadata.tags %}

??? drawing "How this is drawn"

    ```python
{{ cell.source | indent }}
    ```
{% else %}
{{ super() }}
{%- endif -%}
{%- endblock -%}
{%- block data_svg %}
![{{ output.metadata.alt }}]({{ output.metadata.filenames["image/svg+xml"] | path2url }})
{% endblock -%}
{%- block stream %}
``` {.text .output}
{{ output.text.rstrip() }}
```
{% endblock -%}
{%- block data_text scoped %}
``` {.text .output}
{{ output.data["text/plain"] }}
```
{% endblock -%}
"""
