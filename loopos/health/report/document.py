"""A page that needs nothing beside it: no script, no file, no network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; color: #1c1c1c;
background: #fff } h1 { font-size: 1.4em; overflow-wrap: anywhere } h2 { font-size: 1.1em; margin-top: 2em }
figure { margin: 1.2em 0 } figcaption { font-weight: 600 }
figure { overflow-x: auto } svg { width: 100%; min-width: 640px; height: auto } svg text { font: 11px system-ui,
sans-serif; fill: #555 } svg text.key { font-weight: 600 } .grid { stroke: #e3e3e3 } .axis { stroke: #888 } .mark {
stroke: #c0392b; stroke-dasharray: 3 3 } .bad { fill: #c0392b } table { border-collapse: collapse; width: 100% } td,
th { text-align: left; padding: .2em .8em .2em 0; vertical-align: top } td { border-top: 1px solid #e3e3e3;
overflow-wrap: anywhere } pre { white-space: pre-wrap; overflow-wrap: anywhere } .note { color: #8a3b12 }
:root { color-scheme: light dark }
@media (prefers-color-scheme: dark) { body { color: #dedede; background: #171717 } svg text { fill: #a8a8a8 } .grid {
stroke: #333 } td { border-color: #333 } .note { color: #e0a070 } .c0 { stroke: #6aa5e8 } .c1 { stroke: #e8905a } .c2 {
stroke: #63b583 } .c3 { stroke: #b28ad0 } .f0 { fill: #6aa5e8 !important } .f1 { fill: #e8905a !important } .f2 { fill:
#63b583 !important } .f3 { fill: #b28ad0 !important } .c4 { stroke:
#d0b060 } .c5 { stroke: #75bcc0 } .f4 { fill: #d0b060 !important } .f5 { fill: #75bcc0 !important } }
"""


def document(title: str, parts: Iterable[str], *, wide: bool = False) -> str:
    """The whole page. parts: its HTML; an empty one is left out. wide: room for a table of many columns."""
    style = STYLE + ("body { max-width: 1200px }\n" if wide else "")
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style>'
    body = "\n".join(part for part in parts if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
