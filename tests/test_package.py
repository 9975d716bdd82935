"""The package as a whole: what it exports, what it needs, what importing it does to a process."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

import loopos
from loopos import _core

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "loopos"
PROMISED = {
    "CheckpointError",
    "Model",
    "ModelConfig",
    "NonFiniteError",
    "TrainResult",
    "__version__",
    "get_num_threads",
    "gradcheck",
    "ops",
    "optim",
    "set_num_threads",
    "show_config",
    "train",
}
FAST_MATH = re.compile(r"-ffast-math|-Ofast|-ffinite-math-only|-funsafe-math-optimizations|/fp:fast")  # all banned


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def in_new_process(code: str) -> dict:
    """Runs code where loopos is not yet imported; the code prints one JSON object."""
    beside = Path(loopos.__file__).parents[1]  # so that a source folder without the extension does not stand in front
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=beside)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


# What it exports


def test_version_is_that_of_the_project():
    assert loopos.__version__ == project()["version"]
    try:
        installed = importlib.metadata.version("loopos")
    except importlib.metadata.PackageNotFoundError:  # a build in the source folder
        return
    assert installed == loopos.__version__


def test_the_promised_names_are_exported_one_by_one():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    stars = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    assert not stars, "loopos/__init__.py re-exports name by name, never *"
    assert len(set(loopos.__all__)) == len(loopos.__all__)
    assert set(loopos.__all__) >= PROMISED
    assert [name for name in loopos.__all__ if not hasattr(loopos, name)] == []


def test_train_is_the_function():
    assert callable(loopos.train)
    assert not (PACKAGE / "train.py").exists()


# The stub


def stub_names(body: list[ast.stmt]) -> dict[str, dict | None]:
    """Public names of a stub; a class maps to its own public names."""
    names: dict[str, dict | None] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = stub_names(node.body)
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = None
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = None
    return {name: inner for name, inner in names.items() if not name.startswith("_")}


def extension_names(thing: object) -> dict[str, dict | None]:
    names: dict[str, dict | None] = {}
    for name, value in vars(thing).items():
        if not name.startswith("_"):
            holds_names = isinstance(value, (type, type(_core)))
            names[name] = extension_names(value) if holds_names else None
    return names


def test_stub_covers_exactly_what_the_extension_exports():
    in_extension = extension_names(_core)
    assert len(in_extension["ops"]) > 20
    assert stub_names(ast.parse((PACKAGE / "_core.pyi").read_text()).body) == in_extension


def test_stub_comparison_sees_a_difference():
    stub = stub_names(ast.parse("x: int\ndef f(): ...\nclass ops:\n    def relu(): ...\n    def _hidden(): ...\n").body)
    assert stub == {"x": None, "f": None, "ops": {"relu": None}}

    class Ops:
        relu = gelu = staticmethod(len)

    assert extension_names(Ops) == {"relu": None, "gelu": None}


def test_types_are_shipped():
    assert Path(loopos.__file__).with_name("py.typed").is_file()


# What it needs


def test_runtime_needs_numpy_safetensors_tqdm_and_nothing_more():
    names = {re.split(r"[<>=!~;\s\[]", line)[0]: line for line in project()["dependencies"]}
    assert set(names) == {"numpy", "safetensors", "tqdm", "tomli"}
    assert "python_version < '3.11'" in names["tomli"]


FOREIGN = ["torch", "transformers", "matplotlib", "pydoc_data.topics", "pytest"]


@pytest.mark.parametrize("heavy", [*FOREIGN, "loopos.vision", "loopos.covariance"])
def test_import_does_not_pull_in(heavy):
    loaded = in_new_process(f"import json, sys, loopos; print(json.dumps({heavy!r} in sys.modules))")
    assert loaded is False


def test_build_files_never_ask_for_fast_math():
    files = [ROOT / "CMakeLists.txt", ROOT / "pyproject.toml", ROOT / ".ci/run", ROOT / "environment.yml"]
    files += sorted((ROOT / "cmake").glob("*"))
    for path in files:
        code = re.sub(r"#.*", "", path.read_text())
        assert not FAST_MATH.search(code), f"{path.name} must never ask for fast math: it deletes every NaN check"
    assert FAST_MATH.search("set(CMAKE_CXX_FLAGS -O3 -ffast-math)")  # the check can fail: banned flag, seen


# What importing it does


def test_missing_extension_is_said_in_a_sentence():
    said = in_new_process("""
import json, sys
sys.modules["loopos._core"] = None  # as if the compiled file were not there
try:
    import loopos
except ImportError as error:
    print(json.dumps(str(error)))
""")
    assert "loopos._core" in said
    assert "pip install" in said


FLOATING_POINT = """
import ctypes, json, platform
import numpy as np
libm = ctypes.CDLL("libm.so.6")

def control():
    environment = (ctypes.c_uint8 * 64)()
    libm.fegetenv(environment)
    x86 = platform.machine() in ("x86_64", "AMD64")
    mxcsr = int.from_bytes(bytes(environment[28:32]), "little") & 0xFFC0 if x86 else 0  # bits 0..5 are sticky flags
    one = np.ones(1, np.float32)
    tiny = np.full(1, 1e-45, np.float32)
    return {"mxcsr": mxcsr, "rounding": libm.fegetround(), "traps": libm.fegetexcept(),
            "input": float((tiny * one)[0]), "output": float((np.full(1, 2e-38, np.float32) * np.float32(0.125))[0])}
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="reads the floating-point environment through glibc")
def test_import_and_use_leave_the_floating_point_state_alone():
    seen = in_new_process(
        FLOATING_POINT
        + """
before = control()
import loopos
imported = control()
loopos.ops.softmax(np.random.default_rng(0).normal(size=(300, 257)).astype(np.float32))
loopos.ops.matmul(np.ones((64, 64), np.float32), np.ones((64, 64), np.float32))
print(json.dumps([before, imported, control()]))
"""
    )
    before, imported, used = seen
    assert before["input"] != 0
    assert before["output"] != 0
    assert imported == before
    assert used == before


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="MXCSR is x86's")
def test_a_changed_floating_point_state_would_be_seen():
    seen = in_new_process(
        FLOATING_POINT
        + """
before = control()
environment = (ctypes.c_uint8 * 64)()
libm.fegetenv(environment)
environment[29] |= 0x80  # flush to zero, as fast-math start-up code sets it
environment[28] |= 0x40  # denormals are zero
libm.fesetenv(environment)
print(json.dumps([before, control()]))
"""
    )
    before, flushed = seen
    assert before["mxcsr"] != flushed["mxcsr"]
    assert before["input"] != 0
    assert flushed["input"] == 0
    assert flushed["output"] == 0
