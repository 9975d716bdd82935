"""The checkpoints of a run's folder: what counts as one, and which is read."""

import numpy as np
import pytest

from loopos.errors import CheckpointError
from loopos.files.checkpoint_folder import write_folder
from loopos.files.run_folder import holds_checkpoint, list_checkpoints, load_checkpoint

NAMES = ("step-00000003", "step-00000007", "step-00000009.old.17.abcd")


@pytest.fixture
def run(tmp_path):
    for step, name in zip((3, 7, 9), NAMES, strict=True):
        write_folder(tmp_path / name, step, {"w": np.full(2, step, np.float32)}, {"run": "r"})
    (tmp_path / "step-7").mkdir()  # a second spelling
    (tmp_path / "step-00000011.tmp.17.abcd").mkdir()
    return tmp_path


def test_the_newest_that_is_current_comes_first(run):
    assert [found.path.name for found in list_checkpoints(run)] == [NAMES[1], NAMES[0], NAMES[2]]
    assert load_checkpoint(run).step == 7
    assert load_checkpoint(run / NAMES[2]).step == 9


def test_a_damaged_one_is_passed_over_and_all_damaged_are_an_error(run):
    (run / NAMES[1] / "state.json").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="passed over for step-00000003"):
        assert load_checkpoint(run).step == 3
    for name in NAMES:
        (run / name / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none of the 3 checkpoints is sound"):
        load_checkpoint(run)


def test_which_folders_hold_one(run, tmp_path):
    assert holds_checkpoint(run)
    assert holds_checkpoint(run / NAMES[0])
    assert holds_checkpoint(run / "step-00000011.tmp.17.abcd") is False  # neither named for one nor with its files
    (tmp_path / "empty").mkdir()
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "model.safetensors").write_bytes(b"x")
    for name in ("empty", "hf", "gone", f"{NAMES[0]}/state.json"):
        assert not holds_checkpoint(tmp_path / name)
