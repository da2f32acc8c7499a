"""The comment behind a field of a class is its text in the reference, as a docstring would be."""

from __future__ import annotations

import ast
from typing import Any

from griffe import Attribute, Docstring, Extension, ObjectNode


class Comments(Extension):
    """Gives fields without a docstring their comment."""

    def on_attribute_instance(
        self, *, node: ast.AST | ObjectNode, attr: Attribute, **_: Any
    ) -> None:
        """Read the comment on the last line of a class's field."""
        if attr.docstring or not attr.lineno or not (attr.parent and attr.parent.is_class):
            return
        _, mark, comment = attr.lines_collection[attr.filepath][
            (attr.endlineno or 0) - 1
        ].partition("  # ")
        if mark and not comment.startswith(("type:", "fmt:")):
            attr.docstring = Docstring(comment, lineno=attr.lineno, parent=attr)
