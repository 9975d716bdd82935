"""What the fault tests share: prepared run folders, the saver program and the check that nothing was lost."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos.run.checkpoint import Checkpoint, CheckpointStore

SAVER = Path(__file__).with_name("saver.py")


class Faults:
    """Scenarios in ``root``, a folder on a file system where a sync costs nothing."""

    def __init__(self, root: Path):
        self.root = root
        spec = importlib.util.spec_from_file_location("saver", SAVER)
        self.saver = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.saver)
        self.scenarios = self.saver.SCENARIOS

    def prepare(self, scenario: str, count: int) -> list[Path]:
        """``count`` copies of the run folder that the scenario begins with."""
        first = self.root / "run-000"
        with CheckpointStore(first, keep=2) as store:
            for step, variant in self.scenarios[scenario][0]:
                store.save(step, *self.saver.content(step, variant))
        folders = [first, *(self.root / f"run-{i:03d}" for i in range(1, count))]
        for folder in folders[1:]:
            shutil.copytree(first, folder)
        return folders

    def run(self, folders: list[Path], step: int, variant: int, prefix: tuple[str, ...] = (), **job) -> list[dict]:
        """Let the saver program try each folder."""
        job |= {"folders": [str(folder) for folder in folders], "step": step, "variant": variant}
        root = str(Path(loopos.__file__).parents[1])
        env = os.environ | {"PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [*prefix, sys.executable, str(SAVER), json.dumps(job)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def same(self, checkpoint: Checkpoint, step: int, variant: int) -> bool:
        """Whether a checkpoint is, bit for bit, that of the step and variant."""
        arrays, state = self.saver.content(step, variant)
        return (
            checkpoint.step == step
            and checkpoint.state == state
            and set(checkpoint.arrays) == set(arrays)
            and all(
                got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()
                for got, want in ((checkpoint.arrays[name], arrays[name]) for name in arrays)
            )
        )

    def survivor(self, folder: Path) -> tuple[int, int] | None:
        """Open the run as the next process would, without a warning: which (step, variant) it goes on from."""
        with CheckpointStore(folder, keep=2) as store:
            newest = store.load_latest()
        assert not [name for name in os.listdir(folder) if ".tmp." in name or ".trash." in name]
        for name in os.listdir(folder):
            if name.startswith("step-"):
                whole = CheckpointStore.load(folder / name)
                assert self.same(whole, whole.step, whole.state["variant"])
        if newest is None:
            return None
        found = (newest.step, newest.state["variant"])
        assert self.same(newest, *found)
        return found


@pytest.fixture
def faults(tmp_path):
    memory = Path("/dev/shm")
    root = tempfile.mkdtemp(dir=memory) if os.access(memory, os.W_OK) else str(tmp_path)
    yield Faults(Path(root))
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def rng():
    return np.random.default_rng(20240)
