"""What a run keeps, and that a run without output_dir keeps nothing and is asked nothing else."""

from __future__ import annotations

import inspect
import json
import math

import pytest

import loopos
from loopos import NonFiniteError
from loopos.errors import Birth
from loopos.run import folder as folders
from loopos.run.folder import NoFolder, RunFolder, folder_of
from loopos.run.metrics import read_metrics
from loopos.run.updates import Update

UPDATE = Update(1.5, 0.25, 3, 3)
BIRTH = Birth(1, "forward", 0, "linear", "x", (0,), math.nan, "unknown: planted")
CONFIG = loopos.ModelConfig(256, 8, 1, 1, 8)


def test_there_is_one_for_each_kind_of_run(tmp_path):
    assert type(folder_of(None)) is NoFolder
    assert type(folder_of(tmp_path)) is RunFolder
    assert (folder_of(None).keeps, folder_of(tmp_path).keeps) == (False, True)


def test_both_answer_to_the_same_calls():
    methods = {name for name, _ in inspect.getmembers(NoFolder, inspect.isfunction) if name != "__init__"}
    for name in methods:
        assert name in vars(RunFolder), f"RunFolder.{name} is that of a run that keeps nothing"
        mine, its = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (NoFolder, RunFolder))
        assert len(mine) == len(its)


def test_without_output_dir_nothing_is_kept_and_nothing_is_missing():
    error = NonFiniteError(BIRTH)
    before = str(error)
    with folder_of(None) as folder:
        folder.begin(None)
        folder.log({"step": 1})
        folder.log_bits(1, UPDATE)
        folder.save_best(None)
        folder.keep_bundle(None, error)
        assert folder.has(7)
        assert folder.latest() is None
    assert str(error) == before
    assert "no output_dir was given" in folder.how_to_go_on()
    with pytest.raises(RuntimeError, match="has no place"):
        folder.save(1, None)


def test_the_logs_of_a_run(tmp_path):
    with folder_of(tmp_path / "run") as folder:
        folder.begin(None)
        folder.log({"step": 1, "loss": 2.0})
        folder.log_bits(1, UPDATE)
        assert folder.run_id is not None
    assert read_metrics(tmp_path / "run/metrics.jsonl") == [{"step": 1, "loss": 2.0}]
    assert json.loads((tmp_path / "run/bits.jsonl").read_text())["loss_hex"] == (1.5).hex()
    assert str(tmp_path / "run") in folder.how_to_go_on()


def test_a_step_is_saved_once_and_known_when_the_run_goes_on(tmp_path):
    result = loopos.train(CONFIG, "to be or not" * 9, max_steps=1, output_dir=tmp_path, progress=False, seq_len=4)
    assert result.output_dir == tmp_path
    with folder_of(tmp_path) as folder:
        checkpoint = folder.latest()
        assert not folder.has(1)
        folder.begin(checkpoint)
        assert folder.has(1)
        assert not folder.has(2)
        written = []
        assert folder.save(2, lambda method: written.append(method) or tmp_path) == tmp_path
        assert len(written) == 1
        assert folder.has(2)


def test_a_checkpoint_of_elsewhere_is_not_one_of_this_folder(tmp_path):
    loopos.train(CONFIG, "to be or not" * 9, max_steps=1, output_dir=tmp_path / "a", progress=False, seq_len=4)
    with folder_of(tmp_path / "a") as folder:
        checkpoint = folder.latest()
    with folder_of(tmp_path / "b") as folder:
        folder.begin(checkpoint)
        assert not folder.has(1)


def test_a_best_that_is_not_finite_is_nobodys(tmp_path):
    def refused(method):
        raise NonFiniteError(BIRTH)

    with folder_of(tmp_path) as folder:
        folder.begin(None)
        folder.save_best(refused)
        with pytest.raises(NonFiniteError):
            folder.save(1, refused)
        assert not folder.has(1)


def test_a_bundle_that_cannot_be_written_is_said_in_the_error(tmp_path, monkeypatch):
    error = NonFiniteError(BIRTH)

    def full(*_):
        raise OSError(28, "No space left on device")

    with folder_of(tmp_path) as folder:
        folder.begin(None)
        monkeypatch.setattr(folders, "keep", full)
        folder.keep_bundle(lambda: None, error)
        assert "No bundle to repeat the step from could be written" in str(error)
        monkeypatch.setattr(folders, "keep", lambda *_: tmp_path / "a b")
        folder.keep_bundle(lambda: None, error)
        assert f"loopos replay '{tmp_path / 'a b'}'" in str(error)
