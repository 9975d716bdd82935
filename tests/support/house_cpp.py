"""The house rules of cpp/ and bindings/. A rule is a function from a source tree to one sentence for each breach."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

LADDER = {  # a folder of this list covers its subfolders
    "cpp/core": 0,
    "cpp/trace": 1,
    "cpp/kernels": 2,
    "cpp/linalg": 3,
    "cpp/ops": 3,
    "cpp/layers": 4,
    "cpp/optim": 4,
    "cpp/models": 5,
    "bindings": 6,
}
SUFFIXES = (".h", ".cpp", ".inc")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
MACHINE_SPECIFIC = re.compile(
    r"\w*intrin\.h|arm_neon\.h|cpuid\.h|\b_mm\d*_\w+|\b__m(?:128|256|512)\w*|\b__(?:AVX|SSE|FMA|ARM_NEON)\w*"
)


def sources(root: Path) -> Iterator[Path]:
    for folder in ("cpp", "bindings"):
        yield from sorted(path for path in (root / folder).rglob("*") if path.suffix in SUFFIXES)


def room(root: Path, path: Path) -> str:
    """The folder of the ladder that a file lies in, at any depth."""
    parts = path.relative_to(root).parts
    return parts[0] if parts[0] == "bindings" else "/".join(parts[:2])


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


def _includes(root: Path, path: Path) -> Iterator[tuple[str, Path | None]]:
    """(what is written between the quotes, the file it names or None) for each include in quotes."""
    for kind, target in INCLUDE.findall(without_comments(path.read_text())):
        if kind == '"':
            places = (path.parent / target, root / "cpp" / target, root / target)
            yield target, next((place.resolve() for place in places if place.is_file()), None)


def includes_point_down(root: Path) -> list[str]:
    """A C++ file includes from its own room and from rooms below; pybind11 and Eigen stay where they belong."""
    breaches = []
    for path in sources(root):
        here, name = room(root, path), path.relative_to(root)
        if here not in LADDER:
            breaches.append(f"{name}: the folder {here} has no place in the ladder")
            continue
        for _, target in INCLUDE.findall(without_comments(path.read_text())):
            if re.match(r"(pybind11/|Python\.h)", target) and here != "bindings":
                breaches.append(f"{name} includes {target}: only bindings/ knows of Python")
            if target.startswith("Eigen/") and here not in ("cpp/kernels", "cpp/linalg"):
                breaches.append(f"{name} includes {target}: Eigen stays in cpp/kernels and cpp/linalg")
        for target, found in _includes(root, path):
            if found is None:
                breaches.append(f'{name} includes "{target}", which is not in the tree')
                continue
            there = room(root.resolve(), found)
            if there != here and LADDER.get(there, 99) >= LADDER[here]:
                breaches.append(f"{name} ({here}) includes {target} ({there}): an include points down only")
    return breaches


def includes_make_no_circle(root: Path) -> list[str]:
    """No header is reached from itself, within a room either (the include guard would hide it)."""
    root = root.resolve()
    graph = {path: {found for _, found in _includes(root, path) if found} for path in sources(root)}
    return [
        f"these include each other in a circle: {', '.join(str(path.relative_to(root)) for path in circle)}"
        for circle in circles(graph)
    ]


def circles(graph: dict) -> list[list]:
    """The groups of nodes of ``graph`` (node -> what it points at) of which each is reached from itself through the
    others."""
    reached = {}
    for start in graph:
        seen, waiting = set(), list(graph[start])
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting.extend(graph.get(node, ()))
        reached[start] = seen
    groups = {start: sorted(n for n in seen if start in reached.get(n, ())) for start, seen in reached.items()}
    return [group for start, group in groups.items() if group and start == group[0]]


def machine_code_stays_in_kernels(root: Path) -> list[str]:
    """No intrinsic and no name of an instruction set outside cpp/kernels."""
    return [
        f"{path.relative_to(root)}: {word} belongs in cpp/kernels"
        for path in sources(root)
        if room(root, path) != "cpp/kernels"
        for word in sorted(set(MACHINE_SPECIFIC.findall(without_comments(path.read_text()))))
    ]


def forward_has_backward(root: Path) -> list[str]:
    """No op without a backward: in a header of cpp/ops each X_forward stands beside its X_backward."""
    breaches = []
    for path in sorted((root / "cpp/ops").rglob("*.h")):
        names = set(re.findall(r"\b(\w+)_(forward|backward)\s*\(", without_comments(path.read_text())))
        for stem in sorted({stem for stem, _ in names}):
            for half in ("forward", "backward"):
                if (stem, half) not in names:
                    breaches.append(f"{path.relative_to(root)} declares no {stem}_{half}")
    return breaches


def ops_have_tests(root: Path) -> list[str]:
    """cpp/ops/X.cpp has X.h and tests/ops/test_X.py.

    Parts that tested ops share are tested through them: such a header is included by an op with a test of its own, and
    never in bindings/, where it would be an op itself.
    """
    everything = list(sources(root))
    texts = {path: path.read_text() for path in everything}

    def tested(stem: str) -> bool:
        return (root / "tests/ops" / f"test_{stem}.py").is_file()

    def shared(header: str, stem: str) -> bool:
        users = [path for path in everything if f'"{header}"' in texts[path] and path.stem != stem]
        return any(tested(path.stem) for path in users) and not any(room(root, path) == "bindings" for path in users)

    breaches = []
    for path in sorted((root / "cpp/ops").rglob("*.cpp")):
        header = path.with_suffix(".h")
        if not header.is_file():
            breaches.append(f"{path.relative_to(root)} has no {header.relative_to(root)}")
        if not tested(path.stem) and not shared(header.relative_to(root / "cpp").as_posix(), path.stem):
            breaches.append(f"{path.relative_to(root)} has no tests/ops/test_{path.stem}.py")
    return breaches


RULES = [
    includes_point_down,
    includes_make_no_circle,
    machine_code_stays_in_kernels,
    forward_has_backward,
    ops_have_tests,
]
