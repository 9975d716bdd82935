"""A bad environment variable is refused at import in one sentence, without a traceback on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import loopos
from loopos.environment import refused

BAD = [("LOOPOS_ISA", "sse9"), ("LOOPOS_NUM_THREADS", "-3"), ("LOOPOS_NUM_THREADS", "many")]
BAD += [("LOOPOS_PRECISION", "fp8"), ("LOOPOS_PRODUCTS", "amx")]


def started(*command, **environment):
    beside = str(Path(loopos.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": beside, **environment}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, env=env)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_the_command_line_says_one_sentence_and_ends_with_two(name, value, tmp_path):
    script = tmp_path / "loopos"  # as pip writes it
    script.write_text("import sys\nfrom loopos.cli import main\nsys.exit(main())\n")
    as_module = (["-m", "loopos", "info"], ["-mloopos", "info"], ["-Bm", "loopos", "info"])
    for command in (*as_module, [str(script), "info"]):
        result = started(*command, **{name: value})
        assert result.returncode == 2, result.stderr
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith(f"loopos: {name}='{value}': expected ")
        assert f"unset {name}" in result.stderr


@pytest.mark.parametrize(("name", "value"), BAD)
def test_python_gets_an_import_error_with_the_sentence(name, value):
    code = "try:\n    import loopos\nexcept ImportError as error:\n    print(error)\nelse:\n    print('imported')"
    result = started("-c", code, **{name: value})
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"loopos: {name}='{value}': expected ")
    assert result.stdout.strip().endswith(f"or unset it (unset {name})")


def test_another_import_error_is_left_as_it_is():
    assert refused(ImportError("libstdc++.so.6: cannot open shared object file")) is None
