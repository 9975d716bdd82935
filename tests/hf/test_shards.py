"""Weights in several files: read as if in one, and every way in which files and index disagree is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hf_reading import read_pretrained
from safetensors.numpy import load_file, save_file

import loopos
from loopos.errors import CheckpointError
from loopos.hf.shards import INDEX, open_weights

FILES = tuple(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3))


@pytest.fixture
def whole(write_folder, make_settings, make_tensors, family):
    return write_folder(make_settings(family), make_tensors(family))


@pytest.fixture
def sharded(whole, write_folder, make_settings, family):
    """The same in three files, as transformers writes them."""
    tensors = load_file(whole / "model.safetensors")
    folder = write_folder(make_settings(family), None)
    places = {name: FILES[i % 3] for i, name in enumerate(tensors)}
    for file in FILES:
        save_file({n: tensors[n] for n in tensors if places[n] == file}, folder / file, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return folder


def edit(folder, change):
    values = json.loads((folder / INDEX).read_text())
    change(values)
    (folder / INDEX).write_text(json.dumps(values))


def test_it_is_read_as_if_in_one_file(whole, sharded, bits):
    assert bits(read_pretrained(sharded).arrays) == bits(read_pretrained(whole).arrays)
    model = loopos.Model.from_pretrained(sharded, dtype="float64")
    assert bits(model.parameters()) == bits(read_pretrained(whole, "float64").arrays)


def test_one_file_comes_first(whole, sharded, bits):
    """As in transformers: the index of an earlier save may still be there."""
    (sharded / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes())
    (sharded / FILES[0]).unlink()
    assert bits(read_pretrained(sharded).arrays) == bits(read_pretrained(whole).arrays)


def test_a_missing_file(sharded):
    (sharded / FILES[1]).unlink()
    with pytest.raises(CheckpointError, match=rf"does not have: {FILES[1]}; the download is incomplete"):
        open_weights(sharded)


def test_a_tensor_in_two_files(sharded):
    first = load_file(sharded / FILES[0])
    name = next(iter(first))
    save_file(load_file(sharded / FILES[2]) | {name: first[name]}, sharded / FILES[2])
    with pytest.raises(CheckpointError, match=rf"in two files: {name}; of the first: {FILES[0]}, {FILES[2]}"):
        open_weights(sharded)


def test_a_tensor_that_is_not_where_the_index_says(sharded):
    tensors = load_file(sharded / FILES[0])
    name = sorted(tensors)[0]
    edit(sharded, lambda values: values["weight_map"].update({name: FILES[1]}))
    with pytest.raises(CheckpointError, match=f"not in the file that weight_map names: {name} of {FILES[1]}"):
        open_weights(sharded)
    edit(sharded, lambda values: values["weight_map"].update({name: FILES[0], "gone": FILES[0]}))
    with pytest.raises(CheckpointError, match=f"names: gone of {FILES[0]}"):
        open_weights(sharded)


def test_a_tensor_that_the_index_leaves_out(sharded):
    save_file(load_file(sharded / FILES[2]) | {"more": np.ones(3, np.float32)}, sharded / FILES[2])
    with pytest.raises(CheckpointError, match=f"does not name: more of {FILES[2]}"):
        open_weights(sharded)


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "..\\x.safetensors",
        "x.bin",
        "",
        3,
        None,
        [FILES[0]],
    ],
)
def test_a_file_that_is_not_in_the_folder_is_not_opened(sharded, name):
    (sharded.parent / "x.safetensors").write_bytes((sharded / FILES[0]).read_bytes())
    edit(sharded, lambda values: values["weight_map"].update({"a": name}))
    with pytest.raises(CheckpointError, match=r"the file of 'a' must be a name in this folder"):
        open_weights(sharded)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}', '{"weight_map": 3}'])
def test_an_index_that_is_none(sharded, text):
    (sharded / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match=INDEX):
        open_weights(sharded)


def test_a_damaged_file_is_named(sharded):
    path = sharded / FILES[1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=FILES[1]):
        open_weights(sharded)


@pytest.mark.reference
def test_files_of_transformers(tmp_path, bits):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = dict(vocab_size=300, n_positions=12, n_embd=64, n_layer=3, n_head=4)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings))
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "several", max_shard_size="200KB")
    assert len(list((tmp_path / "several").glob("*.safetensors"))) > 2
    assert bits(read_pretrained(tmp_path / "several").arrays) == bits(read_pretrained(tmp_path / "one").arrays)
