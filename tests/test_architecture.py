"""docs/architecture.md and cpp/README.md are true to the tree: paths exist, names stand in their files, no folder is
left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs/architecture.md", ROOT / "cpp/README.md"]
SUFFIXES = r"py|pyi|h|cpp|md|toml|txt|json"


def named_paths(text: str) -> set[str]:
    """What is written as a path: a file with a folder before it, a folder with a slash behind it, a file of the root.
    ``foo`` stands for what a reader adds."""
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    words = [word.rstrip(".,;:") for chunk in quoted for word in chunk.split()]
    paths = {word for word in words if re.fullmatch(rf"\.?[\w.-]+/(?:[\w.-]+/)*(?:[\w.-]+\.(?:{SUFFIXES}))?", word)}
    paths |= {word for word in words if re.fullmatch(r"(?:\.?[\w-]+/)+[\w-]+", word)}
    paths |= {word for word in words if re.fullmatch(rf"[A-Z]\w+\.(?:{SUFFIXES})|pyproject\.toml", word)}
    return {path for path in paths if not re.search(r"\bfoo\b|test_foo", path)}


def tree(text: str) -> list[str]:
    drawn = re.findall(r"^```text\n(.*?)^```$", text, re.M | re.S)
    return re.findall(r"^([\w./]+/) +\S", "".join(drawn), re.M)


def missing(text: str, root: Path, below: str = "") -> list[str]:
    found = sorted(named_paths(text)) + tree(text)
    return [path for path in found if not (root / path).exists() and not (root / below / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_path_exists(page):
    text = page.read_text()
    assert len(named_paths(text)) > 10
    assert missing(text, ROOT, page.parent.name) == []


def test_a_path_that_does_not_exist_would_be_seen():
    text = "`loopos/gone.py` `cpp/foo.h` `cpp/ops/` `a / b`, `Gone.md`\n```text\nloopos/lost/   nothing\n```\n"
    assert missing(text, ROOT) == ["Gone.md", "loopos/gone.py", "loopos/lost/"]


def folders(root: Path) -> set[str]:
    """The folders of sources, down to the second level below loopos/ and cpp/."""
    inner = [*(root / "loopos").rglob("*.py"), *(root / "cpp").rglob("*.h"), *(root / "bindings").glob("*.cpp")]
    return {f"{path.parent.relative_to(root).as_posix()}/" for path in inner}


def test_the_tree_leaves_no_folder_out():
    assert folders(ROOT) - set(tree(PAGES[0].read_text())) == set()


def test_what_the_walk_says_to_look_for_is_there():
    rows = re.findall(r"^\| [^|]+ \| `([^`|]+)` \| `([^`|]+)` \|$", PAGES[0].read_text(), re.M)
    assert len(rows) > 20
    assert [(path, word) for path, word in rows if word not in (ROOT / path).read_text()] == []
