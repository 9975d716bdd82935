"""The run folder: what save keeps, replaces and refuses, and which checkpoint a load finds."""

import os
import shutil

import numpy as np
import pytest

from loopos.errors import CheckpointError, NonFiniteError
from loopos.files.durable import create
from loopos.run.checkpoint import CheckpointStore, load_checkpoint, split_arrays


def _arrays(step):
    return {"w": np.full((2, 3), step, np.float32), "optimizer.exp_avg.w": np.full((2, 3), -step, np.float32)}


def _steps(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("step-"))


def test_a_round_trip_is_exact(tmp_path):
    rng = np.random.default_rng(7)
    arrays = {
        "blocks.0.weight": rng.standard_normal((5, 3)).astype(np.float32),
        "blocks.0.weight64": rng.standard_normal((4, 1, 2)),
        "tiny": np.array([1e-45, -0.0, 3.4e38, 0.1], np.float32),
        "scalar": np.array(0.1),
        "empty": np.zeros((0, 3), np.float32),
        "ids": np.array([-(2**63), 2**63 - 1]),
        "strided": np.arange(24.0).reshape(4, 6)[::2, ::-2],
        "optimizer.exp_avg.blocks.0.weight": rng.standard_normal((5, 3)).astype(np.float32),
        "optimizer.optimizer.odd": np.arange(3, dtype=np.uint8),
    }
    state = {"lr": 0.1 + 0.2, "seed": 2**64 - 1, "none": None, "flags": [True], "text": "ä\ud800\n", "n": {"x": -0.0}}
    with CheckpointStore(tmp_path / "new" / "run") as store:
        path = store.save(3, arrays, state)
        assert path == tmp_path / "new" / "run" / "step-00000003"
        loaded = [store.load_latest(), store.load(path), load_checkpoint(store.folder)]
    for checkpoint in loaded:
        assert (checkpoint.step, checkpoint.path, checkpoint.state) == (3, path, state)
        assert str(checkpoint.state["n"]["x"]) == "-0.0"
        assert set(checkpoint.arrays) == set(arrays)
        for name, array in arrays.items():
            got = checkpoint.arrays[name]
            assert (got.dtype, got.shape, got.tobytes()) == (array.dtype, array.shape, array.tobytes())
            assert got.flags.writeable
            assert got.flags.aligned
    assert set(loaded[0].optimizer) == {"exp_avg.blocks.0.weight", "optimizer.odd"}
    assert loaded[0].weights | {f"optimizer.{k}": v for k, v in loaded[0].optimizer.items()} == loaded[0].arrays
    assert split_arrays({}) == ({}, {})


def test_the_newest_are_kept(tmp_path):
    with CheckpointStore(tmp_path, keep=2) as store:
        assert store.load_latest() is None
        for step in (5, 10, 15, 100_000_000, 100_000_001):
            store.save(step, _arrays(step), {})
            assert store.load_latest().step == step
        assert _steps(tmp_path) == ["step-100000000", "step-100000001"]


def test_order_is_by_step_not_by_date(tmp_path):
    with CheckpointStore(tmp_path) as store:
        for step in (9, 10):
            os.utime(store.save(step, _arrays(step), {}), (10**9 - step, 10**9 - step))
        assert store.load_latest().step == 10


def test_a_step_is_replaced(tmp_path):
    with CheckpointStore(tmp_path, keep=2) as store:
        for value in (1, 2, 3):
            path = store.save(10, _arrays(value), {"value": value})
            assert store.load_latest().state == {"value": value}
        (path / "model.safetensors").write_bytes(b"damaged")
        store.save(10, _arrays(4), {"value": 4})
        assert store.load_latest().state == {"value": 4}
        shutil.rmtree(path)
        path.write_bytes(b"not even a folder")
        store.save(10, _arrays(5), {"value": 5})
        assert store.load_latest().state == {"value": 5}
        assert len(_steps(tmp_path)) == 2


def test_a_run_from_an_earlier_step_leaves_the_later_ones_behind(tmp_path):
    with CheckpointStore(tmp_path, keep=3) as store:
        for step in (10, 20, 30):
            store.save(step, _arrays(step), {"branch": 0})
        store.save(15, _arrays(15), {"branch": 1})
        assert store.load_latest().step == 15
        assert len(_steps(tmp_path)) == 3, "nothing is given up before there is enough that is newer"
        store.save(25, _arrays(25), {"branch": 1})
        assert _steps(tmp_path) == ["step-00000010", "step-00000015", "step-00000025"]


def test_a_checkpoint_set_aside_still_counts(tmp_path):
    """As after a kill between the two renames of a replacement."""
    with CheckpointStore(tmp_path) as store:
        path = store.save(10, _arrays(10), {})
        path.rename(tmp_path / "step-00000010.old.123.abcdef01")
        assert store.load_latest().step == 10
        store.save(5, _arrays(5), {})
        assert store.load_latest().step == 5


def test_what_a_killed_process_left_is_cleared(tmp_path):
    litter = [
        "step-00000010.tmp.1.0a",
        "step-00000010.trash.999999.ffffffff",
        "metrics.jsonl.tmp.12.00",
        "doctor.json.tmp.12.00",
    ]
    for name in litter[:2]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    (tmp_path / litter[2]).write_text("{")
    others = ["notes.txt", "step-00000010.tmp", "step-00000010.bak", "step-0000000010", "step-００００００１０"]
    for name in others:
        (tmp_path / name).mkdir()
    with CheckpointStore(tmp_path) as store:
        assert store.load_latest() is None
        assert sorted(os.listdir(tmp_path)) == sorted([".lock", *others])


def test_litter_that_cannot_be_removed_is_no_reason_not_to_train(tmp_path, monkeypatch):
    (tmp_path / "step-00000010.trash.1.0a").mkdir()

    def rmtree(path, *args, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with pytest.warns(RuntimeWarning, match=r"stays: .*trash\.1\.0a"):
        CheckpointStore(tmp_path).close()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "phase", "op", "layer"),
    [("blocks.3.w", "forward", "parameter", 3), ("optimizer.exp_avg.w", "update", "optimizer", None)],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nonfinite_numbers_are_refused(tmp_path, bad, name, phase, op, layer, dtype):
    with CheckpointStore(tmp_path) as store:
        store.save(1, _arrays(1), {})
        array = np.zeros((2, 3), dtype)
        array[1, 2] = bad
        with pytest.raises(NonFiniteError, match="no checkpoint is written") as caught:
            store.save(2, {**_arrays(2), name: array}, {})
        birth = caught.value.birth
        assert (birth.step, birth.phase, birth.op, birth.layer) == (2, phase, op, layer)
        assert (birth.tensor, birth.index) == (name, (1, 2))
        assert str(birth.value) == str(float(bad))
        assert _steps(tmp_path) == ["step-00000001"]


@pytest.mark.parametrize(
    ("step", "arrays", "state", "error"),
    [
        (-1, {}, {}, ValueError),
        (1.0, {}, {}, ValueError),
        (True, {}, {}, ValueError),
        (1, {"w": [1.0]}, {}, TypeError),
        (1, {1: np.zeros(1)}, {}, TypeError),
        (1, {"w": np.zeros(1, complex)}, {}, TypeError),
        (1, {"w": np.array(["pickle"], object)}, {}, TypeError),
        (1, {"__metadata__": np.zeros(1)}, {}, ValueError),
        (1, {}, {"loss": float("nan")}, ValueError),
        (1, {}, {"loss": np.float32(1)}, TypeError),
        (1, {}, {1: 2}, TypeError),
    ],
)
def test_refusals_leave_nothing(tmp_path, step, arrays, state, error):
    with CheckpointStore(tmp_path) as store:
        with pytest.raises(error):
            store.save(step, arrays, state)
        assert os.listdir(tmp_path) == [".lock"]


@pytest.mark.parametrize("keep", [1, 0, -3, 2.0, True, None])
def test_keep_is_checked(tmp_path, keep):
    with pytest.raises(ValueError, match="keep must be an integer of at least 2"):
        CheckpointStore(tmp_path / "run", keep=keep)
    assert not (tmp_path / "run").exists()


def test_an_output_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    long = tmp_path / ("x" * 250)
    for folder, kind in [
        (tmp_path / "file", NotADirectoryError),
        (tmp_path / "file" / "run", NotADirectoryError),
        (tmp_path / ("x" * 256), OSError),
        ("/dev/full/run", NotADirectoryError),
        ("/proc/run", OSError),
        (tmp_path.joinpath(*["y" * 200] * 21), OSError),
    ]:
        with pytest.raises(kind, match="cannot ") as caught:
            CheckpointStore(folder)
        assert caught.value.errno
        assert caught.value.filename
    CheckpointStore(long).close()
    assert os.listdir(long) == [".lock"]


def test_a_path_that_leaves_no_room_for_the_names_of_a_checkpoint(tmp_path):
    """The folder itself can be made; the probe finds out that nothing can be saved there."""
    room = os.pathconf("/", "PC_PATH_MAX") - 1 - len(str(tmp_path)) - 30
    parts = ["y" * 200] * (room // 201)
    folder = tmp_path.joinpath(*parts, "z" * (room - 201 * len(parts) - 1))
    with pytest.raises(OSError, match="cannot write in the run folder: File name too long"):
        CheckpointStore(folder)
    assert os.listdir(folder) == [".lock"]


def test_a_second_store_is_refused_and_a_closed_one_does_not_save(tmp_path):
    with CheckpointStore(tmp_path) as store, pytest.raises(OSError, match="another live training run") as caught:
        CheckpointStore(tmp_path)
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(RuntimeError, match="is not held"):
        store.save(1, {}, {})
    CheckpointStore(tmp_path).close()


def test_load_names_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load_checkpoint(tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no checkpoint in this folder"):
        load_checkpoint(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="got a file"):
        load_checkpoint(tmp_path / "file")


def test_one_checkpoint_named_is_that_one_or_an_error(tmp_path, monkeypatch):
    with CheckpointStore(tmp_path / "run") as store:
        for step in (1, 2):
            store.save(step, _arrays(step), {})
    assert load_checkpoint(tmp_path / "run" / "step-00000001").step == 1
    shutil.copytree(tmp_path / "run" / "step-00000002", tmp_path / "best")
    assert load_checkpoint(tmp_path / "best").step == 2
    os.unlink(tmp_path / "run" / "step-00000002" / "manifest.json")
    with pytest.raises(CheckpointError, match="the file is missing") as caught:
        load_checkpoint(tmp_path / "run" / "step-00000002")
    assert caught.value.path == str(tmp_path / "run" / "step-00000002" / "manifest.json")
    monkeypatch.chdir(tmp_path)
    assert load_checkpoint("best").path == tmp_path / "best"


def test_an_interrupt_leaves_nothing_half_done(tmp_path, monkeypatch):
    with CheckpointStore(tmp_path) as store:
        store.save(1, _arrays(1), {})
        calls = []

        def interrupted(path, data):
            calls.append(path)
            if len(calls) == 3:
                raise KeyboardInterrupt
            create(path, data)

        monkeypatch.setattr("loopos.files.durable.create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.save(2, _arrays(2), {})
        assert _steps(tmp_path) == ["step-00000001"]
