"""The house rules of loopos/ and of the tree as a whole. A rule is a function from a source tree to one sentence for
each breach.

An import counts wherever it stands: at the top, inside a function, under TYPE_CHECKING (a type is knowledge of another
module too), and as a string that is the whole name of a module, which is what importlib is given.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from house_cpp import SUFFIXES, circles

LADDER = [  # folders and modules of loopos/, from the bottom; those of one line do not import each other
    "calls checks choices environment errors linalg losses ops threads",
    "rope trainable weights",
    "config",
    "precision",
    "build_info computing storage",
    "files",
    "text",
    "births data distributed monitor",
    "generation",
    "hf",
    "adapters",
    "saved",
    "companions classes",
    "model optim",
    "network",
    "covariance vision",
    "gguf gradients run scoring",
    "callbacks training",
    "health sklearn",
    "watch",
    "testing __init__",  # loopos itself: what `import loopos` gives, all of the above
    "bench compare serve",
    "cli",
    "__main__",
]
RANK = {name: rank for rank, line in enumerate(LADDER) for name in line.split()}
RUNTIME_PACKAGES = {"loopos", "numpy", "safetensors", "tqdm", "tomli"}
ENGINES = {
    "torch",
    "jax",
    "transformers",
    "peft",
    "llama_cpp",
}  # what is measured beside LoopOS: in loopos/bench/peers alone
MORE_PACKAGES = {  # by the beginning of a path in loopos/: what an extra brings, imported when it is asked for
    "distributed/": {"mpi4py"},
    "callbacks/tensorboard.py": {"tensorboardX"},
    "callbacks/weights_and_biases.py": {"wandb"},
    "bench/peers/": ENGINES | {"mpi4py"},
    "bench/plots.py": {"matplotlib"},
    "compare/plot.py": {"matplotlib"},
    "sklearn.py": {"sklearn"},
    "watch/": {"torch", "transformers", "lightning"},
    "text/": {"tokenizers", "jinja2"},
    "gguf/": {"gguf"},
    "data/examples/parquet.py": {"pyarrow"},
    "covariance/folder.py": {"scipy"},
    "covariance/pictures.py": {"matplotlib"},
    "vision/data/decoding.py": {"PIL"},
    "vision/data/digits.py": {"sklearn"},
    "vision/sheet.py": {"PIL"},
    "scoring/captions.py": {"sacrebleu"},
    "serve/": {"starlette", "uvicorn"},
}
LINE_LIMIT = 400
UNMIRRORED = {"__init__.py", "__main__.py"}  # they gather what has tests of its own; test_package.py has theirs


def _modules(root: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name, a folder's ``__init__`` under the name of the folder."""
    paths = sorted((root / "loopos").rglob("*.py"))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def _room(root: Path, path: Path) -> str:
    """What the ladder calls a module: its folder in loopos/, or its own name when it lies in loopos/ itself."""
    parts = path.relative_to(root / "loopos").with_suffix("").parts
    return parts[0]


def _imports(path: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """(module, names taken from it) of each import of a file, relative ones made absolute; ``name`` is the file's."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])]), [alias.name for alias in node.names]


def _strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("loopos."):
            yield node.value


def _edges(root: Path) -> dict[str, set[str]]:
    """Which modules of the package each module imports."""
    modules = _modules(root)
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        graph[name] = set()
        for module, names in [*_imports(path, name), *((text, []) for text in _strings(path) if text in modules)]:
            if module.startswith("loopos._core"):
                continue
            inner = {f"{module}.{taken}" for taken in names} & set(modules)
            rest = [taken for taken in names if f"{module}.{taken}" not in inner | {"loopos._core"}]
            graph[name] |= inner | ({module} & set(modules) if rest or not names else set())
    return graph


def imports_point_down(root: Path) -> list[str]:
    """A module imports from its own folder and from what stands below it in the ladder."""
    modules, breaches = _modules(root), []
    for name, reached in _edges(root).items():
        here = _room(root, modules[name])
        if here not in RANK:
            breaches.append(f"loopos/{here} has no place in the ladder of tests/support/house_python.py")
            continue
        for other in sorted(reached):
            there = _room(root, modules[other])
            if there != here and RANK.get(there, 99) >= RANK[here]:
                breaches.append(f"{name} ({here}) imports {other} ({there}): an import points down only")
    return breaches


def imports_make_no_circle(root: Path) -> list[str]:
    """Within a folder the arrows go one way too: no module is reached from itself."""
    return [f"these import each other in a circle: {', '.join(circle)}" for circle in circles(_edges(root))]


def imports_are_allowed(root: Path) -> list[str]:
    """The package imports the standard library, itself and its run-time dependencies, wherever the import stands, and
    what MORE_PACKAGES names where it names it.

    The benchmarks' programs for other engines are run in processes of their own and never imported: they import those
    engines."""
    breaches = []
    for name, path in _modules(root).items():
        where = path.relative_to(root / "loopos").as_posix()
        more = [packages for start, packages in MORE_PACKAGES.items() if where.startswith(start)]
        allowed = RUNTIME_PACKAGES.union(*more) | sys.stdlib_module_names
        for module, _ in _imports(path, name):
            if module.partition(".")[0] not in allowed:
                breaches.append(f"{path.relative_to(root)} imports {module}, which is no run-time dependency")
    return breaches


def peers_stay_apart(root: Path) -> list[str]:
    """Nothing outside loopos/bench/peers imports from it: an engine lives in a process of its own."""
    breaches = []
    for name, path in _modules(root).items():
        for module, names in () if path.parent.name == "peers" else _imports(path, name):
            if "peers" in [*module.split("."), *names]:
                breaches.append(f"{path.relative_to(root)} imports {module}: engines are run, never imported")
    return breaches


def sources_have_tests(root: Path) -> list[str]:
    """loopos/a/X.py has tests/a/test_X.py, or more than one that begin so, or a folder tests/a/X."""
    breaches = []
    for path in _modules(root).values():
        name = path.relative_to(root / "loopos")
        folder = root / "tests" / name.parent
        if path.name in UNMIRRORED or name.parts[:2] == ("bench", "peers"):  # peers: tests/bench/test_peers.py, all
            continue
        if not [*folder.glob(f"test_{path.stem}*.py"), *(folder / path.stem).glob("test_*.py")]:
            breaches.append(f"loopos/{name.as_posix()} has no {(folder / f'test_{path.stem}.py').relative_to(root)}")
    return breaches


def files_are_small(root: Path) -> list[str]:
    """Files aim at 250 lines and stop at 400."""
    breaches = []
    for folder in ("cpp", "bindings", "loopos", "tests", "benchmarks", "examples"):
        for path in sorted((root / folder).rglob("*")):
            lines = len(path.read_text().splitlines()) if path.suffix in (*SUFFIXES, ".py") else 0
            if lines > LINE_LIMIT:
                breaches.append(f"{path.relative_to(root)} has {lines} lines, more than {LINE_LIMIT}; split by theme")
    return breaches


RULES = [
    imports_point_down,
    imports_make_no_circle,
    imports_are_allowed,
    peers_stay_apart,
    sources_have_tests,
    files_are_small,
]
