"""What mkdocs does for this site beside its plug-ins: lessons become pages, formulas MathML."""

from __future__ import annotations

import sys
from pathlib import Path

import formulas
import lessons
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let the blocks of pages import `show`."""
    sys.path.insert(0, str(Path(__file__).parent))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """A page, its pictures and a notebook for each lesson."""
    for path, content in lessons.pages(Path(config.config_file_path).parent):
        files.append(File.generated(config, path, content=content))
    return files


def on_page_content(html: str, **_: object) -> str:
    """The page with its formulas as MathML, which every browser draws by itself."""
    return formulas.to_mathml(html)
