"""The hook of mkdocs (mkdocs.yml). It adds what lies outside docs/ as pages, so that each text has one home. It writes
each page as Markdown beside its HTML, and llms.txt, a list of them.

Nothing here needs mkdocs until mkdocs calls it.
"""

from __future__ import annotations

import functools
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {  # page: the file that it is made of
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
    "figures.md": "benchmarks/results/README.md",
    "cpp.md": "cpp/README.md",
    "kernels.md": "cpp/kernels/README.md",
    "cases.md": "examples/cases/README.md",
}
QUICK_START = "quick-start.md"
REFERENCE = re.compile(r"^::: (\S+)\n(?: {4}.*\n)*", re.M)  # of mkdocstrings, with its options
SECTIONS = ("Quick start", "From Python", "Command line")  # of README.md, which make that page


def section(text: str, title: str) -> str:
    """A section of second level with its heading."""
    found = re.search(rf"^## {re.escape(title)}$.*?(?=^## |\Z)", text, re.M | re.S)
    if found is None:
        raise ValueError(f"README.md has no section {title!r}, which {QUICK_START} is made of")
    return found[0]


def quick_start(readme: str) -> str:
    return "# Quick start\n\n" + "\n".join(section(readme, title) for title in SECTIONS)


def source_of(page: str) -> str:
    """The file of the repository that a page is made of."""
    return "README.md" if page == QUICK_START else OUTSIDE.get(page, f"docs/{page}")


def page_of(path: str) -> str | None:
    """The page that a file of the repository is on the site; None: it is not there."""
    pages = {source: page for page, source in OUTSIDE.items()}
    if path in pages:
        return pages[path]
    return path.removeprefix("docs/") if path.startswith("docs/") and (ROOT / path).is_file() else None


def rewrite_links(markdown: str, page: str) -> str:
    """Relative links of a file of the repository, as its page needs them. One to a file that is no page becomes its
    text and its path."""
    here = posixpath.dirname(source_of(page))

    def rewritten(match: re.Match[str]) -> str:
        picture, text, target = match["picture"], match["text"], match["target"]
        path, mark, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        wanted = posixpath.normpath(posixpath.join(here, path))
        if not (ROOT / wanted).exists():
            raise ValueError(f"{source_of(page)} links to {target}, which leads to no file")
        leads = page_of(wanted)
        if leads is None:
            return text if wanted in text.replace("`", "") else f"{text} (`{wanted}`)"
        relative = posixpath.relpath(leads, posixpath.dirname(page) or ".")
        return f"{picture}[{text}]({relative}{mark}{anchor})"

    pattern = r"(?P<picture>!?)\[(?P<text>[^\]\n]*)\]\((?P<target>[^)\s]+)\)"
    pieces = re.split(r"(^```.*?^```$)", markdown, flags=re.M | re.S)
    return "".join(piece if piece.startswith("```") else re.sub(pattern, rewritten, piece) for piece in pieces)


# Docstrings


def docstring_to_markdown(text: str) -> str:
    """Columns (a name, blanks, what it is) and paragraphs with hanging indents become lists; roles become code."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"(?<!:)::$", ":", text, flags=re.M)
    return "\n\n".join(_block(block) for block in re.split(r"\n{2,}", text.strip("\n")))


def plain_types(signature: str) -> str:
    """The types of a stub as people write them: what takes anything says nothing."""
    signature = re.sub(r"typing\.SupportsFloat \| typing\.SupportsIndex", "float", signature)
    signature = re.sub(r"typing\.SupportsInt \| typing\.SupportsIndex", "int", signature)
    return re.sub(r": typing\.Any\b", "", signature).replace(" -> typing.Any", "")


def _block(block: str) -> str:
    lines = block.split("\n")
    if not lines[0][:1].strip():  # indented: code
        return block
    columns = re.compile(r"(?P<name>[\w.*]+(?:, [\w.*]+)*) {2,}(?P<text>\S.*)")
    if columns.fullmatch(lines[0]):
        return _items(lines, lambda line: columns.fullmatch(line))
    named = re.compile(r"(?P<name>[\w.*]+(?:, [\w.*]+)*): (?P<text>.*)")
    known = sum(named.fullmatch(line) is not None for line in lines)
    if known > 1 or (known and any(line.startswith(" ") for line in lines)):
        return _items(lines, lambda line: named.fullmatch(line))
    return block


def _items(lines: list[str], parse: Any) -> str:
    """A list of the lines that ``parse`` knows; others belong to the item before."""
    out: list[str] = []
    for line in lines:
        if match := None if line.startswith(" ") else parse(line):
            out.append(f"- `{match['name']}`: {match['text']}")
        elif out and (line.startswith(" ") or out[-1].startswith("- ")):
            out[-1] += f" {line.strip()}"
        else:
            out.append(line)
    first = next(i for i, line in enumerate(out) if line.startswith("- "))
    return "\n".join([*out[:first], *([""] if first else []), *out[first:]])


@functools.cache
def _package() -> Any:
    import griffe

    return griffe.load("loopos", search_paths=[str(ROOT)], allow_inspection=False)


def api_as_markdown(name: str) -> str:
    """The public face of a module, class or function, for readers without a browser."""
    return "\n\n".join(_described(_package()[name.removeprefix("loopos.")], name, 2)) + "\n"


def _described(found: Any, name: str, level: int) -> list[str]:
    found = found.final_target if found.is_alias else found
    lines = [f"{'#' * level} {name}"]
    if found.is_function:
        lines.append(f"```python\n{plain_types(found.signature())}\n```")
    if found.docstring is not None:
        lines.append(docstring_to_markdown(found.docstring.value))
    if found.is_class or found.is_module:
        for key, member in found.members.items():
            if member.is_public and (member.is_function or member.is_class):
                lines += _described(member, f"{name}.{key}", level + 1)
    return lines


# What mkdocs calls

_PLAIN: dict[str, str] = {}  # page: Markdown
_NAVIGATION: list[Any] = []


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    readme = (ROOT / "README.md").read_text()
    made = {page: (ROOT / source).read_text() for page, source in OUTSIDE.items()}
    for page, content in (made | {QUICK_START: quick_start(readme)}).items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    path = page.file.src_uri
    markdown = rewrite_links(markdown, path)
    _PLAIN[path] = markdown
    return markdown


def on_nav(nav: Any, config: Any, files: Any) -> Any:
    _NAVIGATION.extend(nav.items)
    return nav


def on_post_build(config: Any) -> None:
    """Each page as Markdown, and llms.txt (https://llmstxt.org): the pages in the order of the navigation."""
    site = Path(config["site_dir"])
    for path, markdown in _PLAIN.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(REFERENCE.sub(lambda found: api_as_markdown(found[1]), markdown))
    head = f"# {config['site_name']}\n\n> {config['site_description']}\n\nEach page of this site is Markdown, too.\n"
    (site / "llms.txt").write_text(head + "".join(_listed(item) for item in _NAVIGATION))


def _listed(item: Any) -> str:
    if item.is_section:
        return f"\n## {item.title}\n\n" + "".join(_listed(child) for child in item.children)
    return f"- [{item.title}]({item.file.src_uri})\n"
