"""What mkdocs does for this site beside its plug-ins: lessons become pages, formulas MathML."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path

import formulas
import lessons
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

RUN = re.compile(r'^(```\w+) .*\bexec="1".*$', re.MULTILINE)
EVERY = re.compile(r"^::: ([\w.]+)\.\*\n((?: {4}.*\n)*)", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let the blocks of pages import `show`."""
    sys.path.insert(0, str(Path(__file__).parent))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """A page, its pictures and a notebook for each lesson."""
    for path, content in lessons.pages(Path(config.config_file_path).parent):
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Write out `::: package.*`: what the package exports and the page does not name itself.

    With SITE_RUNS_BLOCKS=0 blocks are shown and not run, which is for checking links in seconds.
    """
    if os.environ.get("SITE_RUNS_BLOCKS") == "0":
        markdown = RUN.sub(r"\1", markdown)
    named = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)", markdown, re.MULTILINE)}

    def directives(found: re.Match[str]) -> str:
        package, options = found.groups()
        names = [name for name in import_module(package).__all__ if name not in named]
        return "\n".join(f"::: {package}.{name}\n{options}" for name in names)

    return EVERY.sub(directives, markdown)


def on_page_content(html: str, **_: object) -> str:
    """The page with its formulas as MathML, which every browser draws by itself."""
    return formulas.to_mathml(html)
