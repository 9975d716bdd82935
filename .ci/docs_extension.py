"""What mkdocstrings reads of the package: public docstrings as Markdown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from docs_site import docstring_to_markdown, plain_types


class Docstrings(griffe.Extension):
    """Each docstring of the package, as it stands in the source, to Markdown; types of the stub without ``typing.``."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = docstring_to_markdown(obj.docstring.value)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        for each in func.parameters:
            each.annotation = _plain(each.annotation)
        func.returns = _plain(func.returns)


def _plain(annotation: Any) -> Any:
    if annotation is None or "typing." not in str(annotation):
        return annotation
    text = plain_types(f": {annotation}").removeprefix(": ")
    return text or None
