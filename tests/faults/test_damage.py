"""Truncation, flipped bits, lost pages, missing and odd files are noticed and passed over; never other numbers."""

import os
import shutil
import warnings

import pytest

from loopos.errors import CheckpointError
from loopos.run.checkpoint import load_checkpoint

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


@pytest.fixture
def run(faults):
    """A run with checkpoints 10 and 20, and a function that tells which one a resume gets and what it warns of."""
    folder = faults.prepare("append", 1)[0]

    def outcome() -> tuple[int, str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = load_checkpoint(folder)
        assert faults.same(found, found.step, 0)
        assert [warning.category for warning in caught] == [RuntimeWarning] * (found.step == 10)
        return found.step, str(caught[0].message) if caught else ""

    return folder, outcome


def _mutants(data: bytes, rng):
    """(what, bytes): 50 truncations, 125 flipped bits, zeroed blocks, something appended."""
    for end in {0, 1, len(data) - 1, *rng.integers(0, len(data), 47).tolist()}:
        yield f"cut at {end}", data[:end]
    for bit in rng.integers(0, 8 * len(data), 125).tolist():
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        yield f"bit {bit} flipped", bytes(flipped)
    for start in range(0, len(data), 4096):
        yield f"page at {start} lost", data[:start] + bytes(len(data[start : start + 4096])) + data[start + 4096 :]
    yield "a byte appended", data + b"\0"
    yield "doubled", data + data


@pytest.mark.parametrize("name", FILES)
def test_damaged_bytes(run, rng, name):
    folder, outcome = run
    path = folder / "step-00000020" / name
    sound = path.read_bytes()
    for what, data in _mutants(sound, rng):
        path.write_bytes(data)
        step, message = outcome()
        assert step == 10, f"{name}, {what}, was not noticed"
        assert str(path.parent) in message
    path.write_bytes(sound)
    assert outcome() == (20, "")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "loop", "null", "unreadable"])
def test_odd_files(run, name, kind):
    folder, outcome = run
    path = folder / "step-00000020" / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "null":
        path.symlink_to("/dev/null")
    elif kind == "unreadable":
        path.symlink_to("/proc/self/mem")  # opens, claims size 0, and cannot be read
    step, message = outcome()
    assert step == 10
    assert str(path) in message


def test_files_of_another_checkpoint(run):
    """Each is sound by itself; the checksums know that they do not belong together."""
    folder, outcome = run
    for name in FILES:
        path = folder / "step-00000020" / name
        sound = path.read_bytes()
        shutil.copy(folder / "step-00000010" / name, path)
        assert outcome()[0] == 10
        path.write_bytes(sound)
    assert outcome()[0] == 20


def test_a_folder_renamed_to_a_later_step_is_not_believed(run):
    folder = run[0]
    shutil.copytree(folder / "step-00000010", folder / "step-00000099")
    with pytest.warns(RuntimeWarning, match="named for step 99, but this is step 10"):
        assert load_checkpoint(folder).step == 20


def test_all_damaged(run):
    folder = run[0]
    for step in (10, 20):
        with open(folder / f"step-{step:08d}" / "model.safetensors", "r+b") as file:
            file.truncate(100)
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints is sound") as caught:
        load_checkpoint(folder)
    assert caught.value.path == str(folder)
    assert "step-00000020/model.safetensors: the file has 100 of" in caught.value.what
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder / "step-00000010")
    assert caught.value.offset == 100
