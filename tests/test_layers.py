"""The house rules that a reader of the tree can check: arrows point down, names match, files stay small.

Every rule is a function from a source tree to a list of sentences, one for each breach, so that the tests below can
also plant a breach in a small tree and require the rule to see it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {
    "cpp/core": 0,
    "cpp/trace": 1,
    "cpp/kernels": 2,
    "cpp/linalg": 2,
    "cpp/ops": 3,
    "cpp/layers": 4,
    "cpp/optim": 4,
    "cpp/models": 5,
    "bindings": 6,
}
RUNTIME_PACKAGES = {"loopos", "numpy", "safetensors", "tqdm", "tomli"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
MACHINE_SPECIFIC = re.compile(
    r"\w*intrin\.h|arm_neon\.h|cpuid\.h|\b_mm\d*_\w+|\b__m(?:128|256|512)\w*|\b__(?:AVX|SSE|FMA|ARM_NEON)\w*"
)
ENGINES = {"torch", "jax", "transformers"}  # what is measured beside LoopOS: in loopos/bench/peers alone
LINE_LIMIT = 400
UNMIRRORED = {"__init__", "__main__", "ops"}  # tested by test_package.py, test_cli.py and tests/ops/


def _cpp_files(root: Path) -> Iterator[Path]:
    for folder in ("cpp", "bindings"):
        yield from sorted(path for path in (root / folder).rglob("*") if path.suffix in (".h", ".cpp", ".inc"))


def _folder(root: Path, path: Path) -> str:
    parts = path.relative_to(root).parts
    return parts[0] if parts[0] == "bindings" else "/".join(parts[:2])


def _without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


def includes_point_down(root: Path) -> list[str]:
    """A C++ file includes from its own folder and from layers below; pybind11 and Eigen stay where they belong."""
    breaches = []
    for path in _cpp_files(root):
        here, name = _folder(root, path), path.relative_to(root)
        if here not in LAYERS:
            breaches.append(f"{name}: the folder {here} has no place in the ladder")
            continue
        for kind, target in INCLUDE.findall(_without_comments(path.read_text())):
            if re.match(r"(pybind11/|Python\.h)", target) and here != "bindings":
                breaches.append(f"{name} includes {target}: only bindings/ knows of Python")
            if target.startswith("Eigen/") and here not in ("cpp/kernels", "cpp/linalg"):
                breaches.append(f"{name} includes {target}: Eigen stays in cpp/kernels and cpp/linalg")
            if kind == "<":
                continue
            found = [p for p in (path.parent / target, root / "cpp" / target, root / target) if p.is_file()]
            if not found:
                breaches.append(f'{name} includes "{target}", which is not in the tree')
                continue
            there = _folder(root, found[0].resolve())
            if there != here and LAYERS.get(there, 99) >= LAYERS[here]:
                breaches.append(f"{name} ({here}) includes {target} ({there}): an include points down only")
    return breaches


def machine_code_stays_in_kernels(root: Path) -> list[str]:
    """No intrinsic and no name of an instruction set outside cpp/kernels."""
    return [
        f"{path.relative_to(root)}: {word} belongs in cpp/kernels"
        for path in _cpp_files(root)
        if _folder(root, path) != "cpp/kernels"
        for word in sorted(set(MACHINE_SPECIFIC.findall(_without_comments(path.read_text()))))
    ]


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level


def _more_packages(name: str) -> set[str]:
    if name.startswith("bench/peers/"):
        return ENGINES
    return {"bench/plots.py": {"matplotlib"}, "data/hf_tokenizer.py": {"tokenizers"}}.get(name, set())


def imports_are_allowed(root: Path) -> list[str]:
    """The package imports the standard library, itself and its run-time dependencies, wherever the import stands.

    The benchmarks' programs for other engines are run in processes of their own and never imported: they import those
    engines. matplotlib is what plots.py imports, when it is asked for a picture."""
    breaches = []
    for path in sorted((root / "loopos").rglob("*.py")):
        for module, level in _imports(ast.parse(path.read_text())):
            top = module.partition(".")[0]
            allowed = RUNTIME_PACKAGES | _more_packages(path.relative_to(root / "loopos").as_posix())
            if level == 0 and top not in allowed and top not in sys.stdlib_module_names:
                breaches.append(f"{path.relative_to(root)} imports {module}, which is no run-time dependency")
    return breaches


def peers_stay_apart(root: Path) -> list[str]:
    """Nothing outside loopos/bench/peers imports from it: an engine lives in a process of its own."""
    breaches = []
    for path in sorted((root / "loopos").rglob("*.py")):
        if path.parent.name == "peers":
            continue
        for module, _ in _imports(ast.parse(path.read_text())):
            if "peers" in module.split("."):
                breaches.append(f"{path.relative_to(root)} imports {module}: engines are run, never imported")
    return breaches


def _import_time_edges(path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that importing this one imports: not those inside functions or under TYPE_CHECKING."""
    edges: set[str] = set()

    def visit(body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                visit(node.orelse)
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                visit(node.body)
                for handler in getattr(node, "handlers", []):
                    visit(handler.body)
                visit(getattr(node, "orelse", []))
            elif isinstance(node, ast.Import):
                edges.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("loopos."))
            elif isinstance(node, ast.ImportFrom) and (node.level == 1 or f"{node.module}.".startswith("loopos.")):
                module = (node.module or "") if node.level else node.module.partition(".")[2]
                edges.update([module.split(".")[0]] if module else [alias.name for alias in node.names])

    visit(ast.parse(path.read_text()).body)
    return edges & modules


def imports_make_no_circle(root: Path) -> list[str]:
    """Within the package the arrows go one way too: no module is reached from itself while it is imported."""
    files = {path.stem: path for path in sorted((root / "loopos").glob("*.py")) if path.stem != "__init__"}
    graph = {name: _import_time_edges(path, set(files)) for name, path in files.items()}
    breaches = []
    for start in graph:
        seen, waiting = set(), list(graph[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting.extend(graph[name])
        if start in seen:
            breaches.append(f"loopos/{start}.py imports itself through {sorted(seen)}")
    return breaches


def files_are_small(root: Path) -> list[str]:
    """Files aim at 250 lines and stop at 400."""
    breaches = []
    for folder in ("cpp", "bindings", "loopos", "tests", "benchmarks"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".h", ".cpp", ".inc", ".py"):
                lines = len(path.read_text().splitlines())
                if lines > LINE_LIMIT:
                    breaches.append(
                        f"{path.relative_to(root)} has {lines} lines, more than {LINE_LIMIT}; split it by theme"
                    )
    return breaches


def sources_have_tests(root: Path) -> list[str]:
    """cpp/ops/X.cpp has X.h and tests/ops/test_X.py; loopos/X.py has tests/test_X*.py or a folder tests/X.

    Parts that tested ops share are tested through them: such a header is included by an op with a test of its own, and
    never in bindings/, where it would be an op itself.
    """
    breaches = []

    def shared(stem: str) -> bool:
        users = [path for path in _cpp_files(root) if f'"ops/{stem}.h"' in path.read_text() and path.stem != stem]
        tested = [path for path in users if (root / "tests/ops" / f"test_{path.stem}.py").is_file()]
        return bool(tested) and not any(_folder(root, path) == "bindings" for path in users)

    for path in sorted((root / "cpp/ops").glob("*.cpp")):
        if shared(path.stem):
            continue
        for twin in (path.with_suffix(".h"), root / "tests/ops" / f"test_{path.stem}.py"):
            if not twin.is_file():
                breaches.append(f"cpp/ops/{path.name} has no {twin.relative_to(root)}")
    for path in sorted((root / "loopos").glob("*.py")):
        tests = [*(root / "tests").glob(f"test_{path.stem}*.py"), *(root / "tests" / path.stem).glob("test_*.py")]
        if path.stem not in UNMIRRORED and not tests:
            breaches.append(f"loopos/{path.name} has no tests/test_{path.stem}.py")
    return breaches


def forward_has_backward(root: Path) -> list[str]:
    """No op without a backward: in a header of cpp/ops each X_forward stands beside its X_backward."""
    breaches = []
    for path in sorted((root / "cpp/ops").glob("*.h")):
        names = set(re.findall(r"\b(\w+)_(forward|backward)\s*\(", _without_comments(path.read_text())))
        stems = {stem for stem, _ in names}
        for stem in sorted(stems):
            for half in ("forward", "backward"):
                if (stem, half) not in names:
                    breaches.append(f"cpp/ops/{path.name} declares no {stem}_{half}")
    return breaches


RULES: list[Callable[[Path], list[str]]] = [
    includes_point_down,
    machine_code_stays_in_kernels,
    imports_are_allowed,
    peers_stay_apart,
    imports_make_no_circle,
    files_are_small,
    sources_have_tests,
    forward_has_backward,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_tree_keeps_the_rule(rule):
    breaches = rule(ROOT)
    assert not breaches, "\n".join(breaches)


def test_there_is_a_tree_to_check():
    assert {_folder(ROOT, path) for path in _cpp_files(ROOT)} >= {"cpp/core", "cpp/kernels", "cpp/ops", "bindings"}
    assert (ROOT / "loopos/__init__.py").is_file()


SOUND = {
    "cpp/core/tensor.h": "#pragma once\n#include <vector>\n",
    "cpp/kernels/gemm/gemm.h": '#include <immintrin.h>\n#include "core/tensor.h"\n#include <Eigen/Core>\n',
    "cpp/ops/relu.h": '#include "core/tensor.h"  // not gpt.h\nvoid relu_forward(int x);\nvoid relu_backward(int);\n',
    "cpp/ops/relu.cpp": '#include "ops/relu.h"\n#include "ops/sums.h"\n#include "kernels/gemm/gemm.h"\n// __AVX2__\n',
    "cpp/models/gpt.h": '#include "ops/relu.h"\n',
    "cpp/ops/sums.h": "",
    "cpp/ops/sums.cpp": '#include "ops/sums.h"\n',
    "bindings/ops.cpp": '#include <pybind11/pybind11.h>\n#include "models/gpt.h"\n',
    "loopos/__init__.py": "from loopos.a import x\n",
    "loopos/a.py": "import json\nimport numpy as np\n\n\ndef f():\n    from loopos.b import y\n",
    "loopos/b.py": "from .a import x\n",
    "tests/ops/test_relu.py": "",
    "tests/test_a.py": "",
    "tests/test_b_more.py": "",
}


def _plant(root: Path, extra: dict[str, str | None]) -> Path:
    for name, text in {**SOUND, **extra}.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_tree_passes(rule, tmp_path):
    assert rule(_plant(tmp_path, {})) == []


FAULTS = [
    (includes_point_down, {"cpp/ops/relu.h": '#include "models/gpt.h"\n'}, "points down only"),
    (includes_point_down, {"cpp/core/tensor.h": '#include "../ops/relu.h"\n'}, "points down only"),
    (
        includes_point_down,
        {"cpp/kernels/gemm/gemm.h": '#include "linalg/eig.h"\n', "cpp/linalg/eig.h": ""},
        "points down only",
    ),
    (includes_point_down, {"cpp/core/tensor.h": "#include <pybind11/numpy.h>\n"}, "only bindings/"),
    (includes_point_down, {"cpp/core/tensor.h": "#  include <Eigen/Core>\n"}, "Eigen stays"),
    (includes_point_down, {"cpp/core/tensor.h": '#include "core/gone.h"\n'}, "not in the tree"),
    (includes_point_down, {"cpp/attic/old.h": ""}, "no place in the ladder"),
    (machine_code_stays_in_kernels, {"cpp/ops/relu.cpp": "#include <immintrin.h>\n"}, "immintrin.h"),
    (machine_code_stays_in_kernels, {"bindings/ops.cpp": "auto v = _mm256_setzero_ps();\n"}, "_mm256_setzero_ps"),
    (machine_code_stays_in_kernels, {"cpp/core/tensor.h": "#ifdef __AVX512F__\n#endif\n"}, "__AVX512F__"),
    (imports_are_allowed, {"loopos/a.py": "def f():\n    import torch\n"}, "torch"),
    (imports_are_allowed, {"loopos/a.py": "from transformers.models import x\n"}, "transformers"),
    (imports_are_allowed, {"loopos/bench/steps.py": "import jax\n"}, "jax"),
    (imports_are_allowed, {"loopos/bench/peers/jax_jit.py": "import matplotlib\n"}, "matplotlib"),
    (peers_stay_apart, {"loopos/bench/steps.py": "def f():\n    from .peers import jax_jit\n"}, "never imported"),
    (peers_stay_apart, {"loopos/a.py": "import loopos.bench.peers.ours\n"}, "never imported"),
    (imports_make_no_circle, {"loopos/a.py": "from . import b\n"}, "loopos/a.py imports itself"),
    (imports_make_no_circle, {"loopos/a.py": "if x:\n    import loopos.b\n"}, "loopos/b.py imports itself"),
    (files_are_small, {"tests/test_a.py": "\n" * 401}, "401 lines"),
    (sources_have_tests, {"tests/ops/test_relu.py": None}, "tests/ops/test_relu.py"),
    (sources_have_tests, {"cpp/ops/relu.h": None}, "cpp/ops/relu.h"),
    (sources_have_tests, {"cpp/ops/sum.cpp": "", "cpp/ops/sum.h": ""}, "tests/ops/test_sum.py"),
    (
        sources_have_tests,
        {
            "cpp/ops/sum.cpp": "",
            "cpp/ops/relu.cpp": '#include "ops/sum.h"\n',
            "bindings/ops.cpp": '#include "ops/sum.h"\n',
        },
        "tests/ops/test_sum.py",
    ),
    (sources_have_tests, {"loopos/c.py": ""}, "tests/test_c.py"),
    (forward_has_backward, {"cpp/ops/relu.h": "void relu_forward(int x);\n"}, "relu_backward"),
    (forward_has_backward, {"cpp/ops/relu.h": "void relu_backward(int dy);\n"}, "relu_forward"),
]


@pytest.mark.parametrize(("rule", "fault", "sentence"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_fault_is_seen(rule, fault, sentence, tmp_path):
    breaches = rule(_plant(tmp_path, fault))
    assert any(sentence in breach for breach in breaches), breaches
