"""The two files of an adapter's folder."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import CheckpointError
from loopos.adapters import files


def test_both_come_back(tmp_path):
    folder, array = tmp_path / "new" / "adapter", np.arange(6, dtype=np.float32).reshape(2, 3)
    files.write(folder, {"r": 2}, {"a.lora_A.weight": array})
    assert sorted(path.name for path in folder.iterdir()) == [files.SETTINGS, files.WEIGHTS]
    assert files.read_settings(folder) == {"r": 2}
    ((name, tensor),) = files.read_tensors(folder).items()
    assert name == "a.lora_A.weight"
    np.testing.assert_array_equal(tensor.array, array)


def test_what_is_missing_or_malformed(tmp_path):
    for read in (files.read_settings, files.read_tensors):
        with pytest.raises(FileNotFoundError):
            read(tmp_path)
    for name, read in ((files.SETTINGS, files.read_settings), (files.WEIGHTS, files.read_tensors)):
        (tmp_path / name).write_bytes(b"{")
        with pytest.raises(CheckpointError):
            read(tmp_path)
