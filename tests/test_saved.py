"""Models out of folders: of a run, of one checkpoint, of Hugging Face, and what to say of others."""

import warnings

import numpy as np
import pytest

import loopos
from loopos import saved
from loopos.cli import folders
from loopos.data.tokenizer import CharTokenizer
from loopos.errors import CheckpointError

TEXT = "abcdefgh" * 40
CONFIG = loopos.ModelConfig(256, 8, 1, 2, 8)


def _bits(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


@pytest.fixture
def run(tmp_path):
    """(folder of a finished run with checkpoints of steps 1 and 2, its model)."""
    found = loopos.train(CONFIG, TEXT, max_steps=2, save_every=1, output_dir=tmp_path / "run", progress=False)
    return tmp_path / "run", found.model


def test_a_run_opens_as_its_newest_sound_checkpoint(run):
    folder, model = run
    for place in (folder, str(folder), folder / "step-00000002"):
        opened = loopos.Model.from_pretrained(place)
        assert (opened.config, opened.dtype, _bits(opened)) == (model.config, "float32", _bits(model))
    assert _bits(loopos.Model.from_pretrained(folder / "step-00000001")) != _bits(model)
    (folder / "step-00000002" / "model.safetensors").write_bytes(b"cut")
    with pytest.warns(RuntimeWarning, match="passed over for step-00000001"):
        earlier = loopos.Model.from_pretrained(folder)
    assert _bits(earlier) == _bits(loopos.Model.from_pretrained(folder / "step-00000001"))
    with pytest.raises(CheckpointError, match=r"has 3 of \d+ bytes"):
        loopos.Model.from_pretrained(folder / "step-00000002")


def test_the_dtype_of_a_run_may_be_another(run):
    folder, model = run
    wide = loopos.Model.from_pretrained(folder, dtype="float64")
    assert wide.dtype == "float64"
    assert all((wide.parameters()[name] == array).all() for name, array in model.parameters().items())
    with pytest.raises(ValueError, match="dtype must be"):
        loopos.Model.from_pretrained(folder, dtype="float16")
    big = loopos.Model(CONFIG, dtype="float64")
    big.parameters()["final_norm.weight"][3] = 1e39
    loopos.train(big, TEXT, max_steps=1, learning_rate=0.0, output_dir=folder.parent / "big", progress=False)
    with pytest.raises(ValueError, match=r"final_norm.weight\[3\] = .*beyond the range of float32"):
        loopos.Model.from_pretrained(folder.parent / "big", dtype="float32")


def test_reading_a_run_changes_nothing_in_it(run):
    folder, _ = run
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = saved.read(folder)
    assert (found.step, found.source, found.dtype) == (2, None, "float32")
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


def test_a_run_goes_to_transformers_by_way_of_a_model(run, tmp_path):
    folder, model = run
    loopos.Model.from_pretrained(folder).save_pretrained(tmp_path / "out")
    assert _bits(loopos.Model.from_pretrained(tmp_path / "out")) == _bits(model)


def test_folders_of_neither_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config.json, and no checkpoint of loopos.train"):
        loopos.Model.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        loopos.Model.from_pretrained(tmp_path / "gone")
    (tmp_path / "step-00000003").mkdir()
    with pytest.raises(CheckpointError, match=r"manifest\.json: the file is missing"):
        loopos.Model.from_pretrained(tmp_path / "step-00000003")


def test_the_command_line_gets_tokenizer_and_step_too(tmp_path):
    text = "to be or not to be " * 20
    loopos.train(
        loopos.ModelConfig(len(set(text)), 8, 1, 2, 8), text, tokenizer="chars", max_steps=1,
        output_dir=tmp_path / "run", progress=False,
    )  # fmt: skip
    found = folders.load(str(tmp_path / "run"))
    assert isinstance(found.model.tokenizer, CharTokenizer)
    assert found.step == 1
    assert found.state["config"]["d_model"] == 8
    loopos.Model.from_pretrained(tmp_path / "run").save_pretrained(tmp_path / "hf")
    assert folders.load(str(tmp_path / "hf"))[1:] == (None, {})


def test_a_state_of_something_else(run):
    from loopos.run.checkpoint import CheckpointStore

    folder = run[0].parent / "other"
    with CheckpointStore(folder) as store:
        store.save(1, {"a": np.zeros(3)}, {"kind": "mine"})
    with pytest.raises(CheckpointError, match=r"state\.json is not of a run"):
        loopos.Model.from_pretrained(folder)
