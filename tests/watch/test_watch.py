"""``loopos.watch``: callable, and PyTorch is loaded by its use alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

import loopos

pytestmark = pytest.mark.reference


def test_import_loopos_loads_no_torch():
    code = "import sys, loopos; loopos.watch; assert 'torch' not in sys.modules, 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_a_sentence_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import loopos; loopos.watch(None, None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'loopos[torch]'" in done.stderr


def test_it_is_a_module_and_a_function():
    import loopos.watch as module

    assert module is loopos.watch
    assert callable(loopos.watch)
