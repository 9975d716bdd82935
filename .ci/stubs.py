"""Writes loopos/_core.pyi from the compiled extension, or with --check compares and fails on a difference.

    python .ci/stubs.py            after a change in bindings/, with loopos installed
    python .ci/stubs.py --check    what .ci/run does

pybind11-stubgen describes an extension with a submodule as a package of stubs. The extension is one file, so its
submodules are written here as classes of static methods: `loopos._core.ops.softmax` resolves the same way, and no
folder `loopos/_core` stands in the way of the real module.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import subprocess
import sys
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "loopos" / "_core.pyi"
BANNER = "# Written by `python .ci/stubs.py` from the compiled extension; change the bindings, not this file."


def _generate() -> list[tuple[str, ast.Module]]:
    """The stubs as pybind11-stubgen sees them: ("", module) first, then (name, submodule) for each submodule."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pybind11_stubgen", "loopos._core", "-o", folder]
        command += ["--numpy-array-use-type-var", "--exit-code"]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(f"pybind11-stubgen failed:\n{run.stdout}{run.stderr}")
        base = Path(folder, "loopos")
        single = base / "_core.pyi"
        if single.is_file():
            return [("", ast.parse(single.read_text()))]
        files = sorted((base / "_core").glob("*.pyi"), key=lambda path: (path.stem != "__init__", path.stem))
        return [("" if path.stem == "__init__" else path.stem, ast.parse(path.read_text())) for path in files]


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _is_all(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Assign, ast.AnnAssign)) and "__all__" in ast.unparse(node).split(":")[0].split("=")[0]


def _as_class(name: str, module: ast.Module) -> ast.ClassDef:
    body = [node for node in module.body if not _is_import(node) and not _is_all(node)]
    for node in body:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list.append(ast.Name("staticmethod"))
    return ast.ClassDef(name, bases=[], keywords=[], body=body or [ast.Pass()], decorator_list=[], type_params=[])


def render() -> str:
    modules = _generate()
    names = {name for name, _ in modules if name}
    imports, body = set(), []
    for name, module in modules:
        for node in module.body:
            if _is_import(node) and not (isinstance(node, ast.ImportFrom) and node.level):
                imports.add(ast.unparse(node))
        if name:
            body.append(_as_class(name, module))
        else:
            body += [node for node in module.body if not _is_import(node) and not _is_all(node)]
    missing = names - {node.name for node in body if isinstance(node, ast.ClassDef)}
    if missing:
        raise SystemExit(f"submodules lost on the way: {sorted(missing)}")
    future = sorted(line for line in imports if "__future__" in line)
    lines = [BANNER, "# ruff: noqa", *future, *sorted(imports - set(future)), ""]
    lines += [ast.unparse(ast.fix_missing_locations(node)) for node in body]
    text = "\n".join(lines) + "\n"
    shape = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(shape, input=text, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when loopos/_core.pyi is out of date"
    )
    check = parser.parse_args().check
    fresh = render()
    if not check:
        TARGET.write_text(fresh)
        return
    old = TARGET.read_text() if TARGET.is_file() else ""
    if old != fresh:
        sys.stdout.writelines(
            difflib.unified_diff(old.splitlines(True), fresh.splitlines(True), "_core.pyi", "extension")
        )
        raise SystemExit("loopos/_core.pyi is out of date: run `python .ci/stubs.py` with loopos installed")


if __name__ == "__main__":
    main()
