"""Who started this process, and what it is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loopos.distributed.alone import Alone
from loopos.distributed.opening import launched, open_ranks

pytestmark = pytest.mark.usefixtures("started_by_nobody")


def test_without_a_launcher_there_is_one_process():
    assert launched() is None
    for asked in (None, "auto"):
        assert type(open_ranks(asked)) is Alone


def test_launchers_tell_the_rank(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "2")
    assert launched() == (2, None)
    monkeypatch.setenv("PMI_SIZE", "4")
    assert launched() == (2, 4)
    assert type(open_ranks(None)) is Alone  # each by itself, as it was asked for


def test_without_mpi4py_there_is_a_sentence(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"mpi4py is missing: pip install 'loopos\[mpi\]'"):
        open_ranks("auto")


@pytest.mark.unsanitized("a process of its own: sanitizers are not in it")
def test_who_guards_a_rank_that_died_leaves_its_outputs():
    """A launcher waits until nobody holds them any more."""
    dies = "import os\nfrom loopos.distributed.opening import meeting\nwith meeting(0, 100.0): os._exit(3)"
    ended = subprocess.run([sys.executable, "-c", dies], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, b"", b"")
