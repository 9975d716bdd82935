"""The house rules that a reader of the tree can check: arrows point down, every source has its test, files stay small.

The rules are in tests/support/house_cpp.py and house_python.py. Each is a function from a source tree to a list of
sentences, one for each breach, so that the tests below can also plant a breach in a small tree and require the rule to
see it.
"""

from __future__ import annotations

from pathlib import Path

import house_cpp as cpp
import house_python as python
import pytest

pytestmark = pytest.mark.unsanitized("reads the sources: Python alone")

ROOT = Path(__file__).resolve().parents[1]
RULES = [*cpp.RULES, *python.RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_tree_keeps_the_rule(rule):
    breaches = rule(ROOT)
    assert not breaches, "\n".join(breaches)


def test_there_is_a_tree_to_check():
    assert {cpp.room(ROOT, path) for path in cpp.sources(ROOT)} >= {"cpp/core", "cpp/kernels", "cpp/ops", "bindings"}
    assert {"checks", "data", "run", "health", "cli"} <= {path.stem for path in (ROOT / "loopos").iterdir()}


SOUND = {
    "cpp/core/tensor.h": "#pragma once\n#include <vector>\n",
    "cpp/trace/probe.h": '#include "core/tensor.h"\n',
    "cpp/kernels/isa/vec.h": "#include <immintrin.h>\n",
    "cpp/kernels/gemm/gemm.h": '#include "kernels/isa/vec.h"\n#include "trace/probe.h"\n#include <Eigen/Core>\n',
    "cpp/ops/relu.h": '#include "core/tensor.h"  // not gpt.h\nvoid relu_forward(int x);\nvoid relu_backward(int);\n',
    "cpp/ops/relu.cpp": '#include "ops/relu.h"\n#include "ops/sums.h"\n#include "kernels/gemm/gemm.h"\n// __AVX2__\n',
    "cpp/optim/rules/adam.h": '#include "ops/relu.h"\n',
    "cpp/optim/optimizer.h": '#include "rules/adam.h"\n#include "optim/rules/adam.h"\n',
    "cpp/models/gpt.h": '#include "ops/relu.h"\n',
    "cpp/ops/sums.h": "",
    "cpp/ops/sums.cpp": '#include "ops/sums.h"\n',
    "bindings/relu.cpp": '#include <pybind11/pybind11.h>\n#include "models/gpt.h"\n',
    "loopos/__init__.py": "from loopos.training import x\n",
    "loopos/checks.py": "import json\nimport numpy as np\n",
    "loopos/data/__init__.py": "from .reading import z\n",
    "loopos/data/reading.py": "from loopos import _core, checks\n",
    "loopos/run/one.py": "from loopos.data import reading\n\n\ndef f():\n    from .two import y\n",
    "loopos/run/two.py": "from ..checks import x\nNAME = 'loopos.run'\n",
    "loopos/training.py": "from .run import one\n",
    "tests/ops/test_relu.py": "",
    "tests/test_checks.py": "",
    "tests/data/test_reading.py": "",
    "tests/run/test_one.py": "",
    "tests/run/two/test_parts.py": "",
    "tests/test_training_more.py": "",
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


FAULTS = {
    cpp.includes_point_down: [
        ({"cpp/ops/relu.h": '#include "models/gpt.h"\n'}, "points down only"),
        ({"cpp/core/tensor.h": '#include "../ops/relu.h"\n'}, "points down only"),
        ({"cpp/core/tensor.h": '#include "trace/probe.h"\n'}, "points down only"),
        ({"cpp/trace/probe.h": '#include "kernels/isa/vec.h"\n'}, "points down only"),
        ({"cpp/kernels/gemm/gemm.h": '#include "ops/relu.h"\n'}, "cpp/kernels) includes ops/relu.h (cpp/ops)"),
        ({"cpp/kernels/gemm/gemm.h": '#include "linalg/eig.h"\n', "cpp/linalg/eig.h": ""}, "points down only"),
        ({"cpp/layers/mlp.h": '#include "optim/rules/adam.h"\n'}, "points down only"),
        ({"cpp/core/tensor.h": "#include <pybind11/numpy.h>\n"}, "only bindings/"),
        ({"cpp/core/tensor.h": "#  include <Eigen/Core>\n"}, "Eigen stays"),
        ({"cpp/core/tensor.h": '#include "core/gone.h"\n'}, "not in the tree"),
        ({"cpp/attic/old.h": ""}, "no place in the ladder"),
    ],
    cpp.includes_make_no_circle: [
        ({"cpp/optim/rules/adam.h": '#include "optim/optimizer.h"\n'}, "cpp/optim/optimizer.h, cpp/optim/rules/adam.h"),
        ({"cpp/core/tensor.h": '#include "tensor.h"\n'}, "circle: cpp/core/tensor.h"),
    ],
    cpp.machine_code_stays_in_kernels: [
        ({"cpp/ops/relu.cpp": "#include <immintrin.h>\n"}, "immintrin.h"),
        ({"bindings/relu.cpp": "auto v = _mm256_setzero_ps();\n"}, "_mm256_setzero_ps"),
        ({"cpp/optim/rules/adam.h": "#ifdef __AVX512F__\n#endif\n"}, "__AVX512F__"),
    ],
    cpp.forward_has_backward: [
        ({"cpp/ops/relu.h": "void relu_forward(int x);\n"}, "relu_backward"),
        ({"cpp/ops/attention/window.h": "void window_backward(int dy);\n"}, "window_forward"),
    ],
    cpp.ops_have_tests: [
        ({"tests/ops/test_relu.py": None}, "tests/ops/test_relu.py"),
        ({"cpp/ops/relu.h": None}, "cpp/ops/relu.h"),
        ({"cpp/ops/sum.cpp": "", "cpp/ops/sum.h": ""}, "tests/ops/test_sum.py"),
        ({"cpp/ops/attention/window.cpp": "", "cpp/ops/attention/window.h": ""}, "tests/ops/test_window.py"),
        ({"bindings/relu.cpp": '#include "ops/sums.h"\n'}, "tests/ops/test_sums.py"),
    ],
    python.imports_point_down: [
        ({"loopos/checks.py": "from loopos.training import x\n"}, "checks) imports loopos.training (training)"),
        ({"loopos/checks.py": "def f():\n    from .run import one\n"}, "loopos.run.one (run)"),
        ({"loopos/data/reading.py": "def f():\n    import loopos.run.one\n"}, "loopos.run.one (run)"),
        ({"loopos/data/reading.py": "if TYPE_CHECKING:\n    from ..run.one import A\n"}, "loopos.run.one (run)"),
        ({"loopos/data/reading.py": "later = {'x': 'loopos.run.one'}\n"}, "loopos.run.one (run)"),
        ({"loopos/births/birth.py": "from loopos.data import z\n"}, "loopos.data (data)"),
        ({"loopos/run/one.py": "import loopos\n"}, "imports loopos (__init__)"),
        ({"loopos/health/doctor/all.py": "from ... import train\n"}, "imports loopos (__init__)"),
        ({"loopos/health/doctor/all.py": "from loopos.cli import main\n", "loopos/cli/__init__.py": ""}, "(cli)"),
        ({"loopos/attic/old.py": ""}, "loopos/attic has no place"),
    ],
    python.imports_make_no_circle: [
        ({"loopos/run/two.py": "from . import one\n"}, "circle: loopos.run.one, loopos.run.two"),
        ({"loopos/run/two.py": "def f():\n    import loopos.run.one\n"}, "circle: loopos.run.one, loopos.run.two"),
        ({"loopos/health/b.py": "from .c.a import x\n", "loopos/health/c/a.py": "from .. import b\n"}, "health.b"),
        ({"loopos/data/reading.py": "from . import z\n"}, "circle: loopos.data, loopos.data.reading"),
    ],
    python.imports_are_allowed: [
        ({"loopos/run/one.py": "def f():\n    import torch\n"}, "torch"),
        ({"loopos/checks.py": "from transformers.models import x\n"}, "transformers"),
        ({"loopos/bench/steps.py": "import jax\n"}, "jax"),
        ({"loopos/bench/peers/jax_jit.py": "import matplotlib\n"}, "matplotlib"),
    ],
    python.peers_stay_apart: [
        ({"loopos/bench/steps.py": "def f():\n    from .peers import jax_jit\n"}, "never imported"),
        ({"loopos/bench/steps.py": "from . import peers\n"}, "never imported"),
        ({"loopos/checks.py": "import loopos.bench.peers.ours\n"}, "never imported"),
    ],
    python.sources_have_tests: [
        ({"loopos/config.py": ""}, "tests/test_config.py"),
        ({"loopos/run/three.py": ""}, "tests/run/test_three.py"),
        ({"loopos/health/doctor/all.py": "", "tests/health/test_all.py": ""}, "tests/health/doctor/test_all.py"),
    ],
    python.files_are_small: [
        ({"tests/test_checks.py": "\n" * 401}, "401 lines"),
        ({"cpp/kernels/isa/vec.h": "\n" * 401}, "401 lines"),
    ],
}


@pytest.mark.parametrize(
    ("rule", "fault", "sentence"),
    [(rule, *each) for rule in RULES for each in FAULTS[rule]],  # a rule without a planted fault is a KeyError
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_fault_is_seen(rule, fault, sentence, tmp_path):
    breaches = rule(_plant(tmp_path, fault))
    assert any(sentence in breach for breach in breaches), breaches
