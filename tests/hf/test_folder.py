"""Folders: which files are read and written, and what a failure leaves."""

import errno
import os
import re
import shutil

import numpy as np
import pytest
from hf_reading import read_pretrained
from safetensors import safe_open
from safetensors.numpy import load_file

from loopos.errors import CheckpointError, NonFiniteError
from loopos.hf import write_pretrained


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_round_trip_keeps_every_bit(family, bits, dtype, make_settings, make_tensors, write_folder, tmp_path):
    tensors = make_tensors(family, dtype)
    folder = write_folder(make_settings(family), tensors)
    config, arrays, _ = read_pretrained(folder)
    assert all(a.dtype == dtype and a.flags.c_contiguous and a.flags.writeable for a in arrays.values())
    write_pretrained(tmp_path / "a" / "b", config, arrays)
    assert bits(load_file(tmp_path / "a" / "b" / "model.safetensors")) == bits(tensors)
    with safe_open(tmp_path / "a" / "b" / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    again, arrays_again, _ = read_pretrained(tmp_path / "a" / "b")
    assert again == config
    assert bits(arrays_again) == bits(arrays)
    assert list(arrays_again) == list(arrays)


def test_files_that_are_not_there(make_settings, make_tensors, write_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such"):
        read_pretrained(tmp_path / "no-such")
    folder = write_folder(make_settings("gpt2"), None)
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        read_pretrained(str(folder))
    with pytest.raises(NotADirectoryError):
        read_pretrained(folder / "config.json")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(CheckpointError, match="pickled"):
        read_pretrained(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret"}}')
    with pytest.raises(CheckpointError, match=r"'a' must be a name in this folder"):
        read_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        read_pretrained(folder)


def test_damaged_weights(family, make_settings, make_tensors, write_folder):
    folder = write_folder(make_settings(family), make_tensors(family))
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for size in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            read_pretrained(folder)
    for damaged in (b"\xff" * 64, b"\0" * 64, whole + b"x", whole[:8] + b"[" * (len(whole) - 8)):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            read_pretrained(folder)


def test_saving_refuses_what_is_not_the_model(make_settings, make_tensors, write_folder, tmp_path):
    config, arrays, _ = read_pretrained(write_folder(make_settings("llama"), make_tensors("llama")))
    out = tmp_path / "out"
    name = "blocks.1.mlp.down_proj.weight"
    with pytest.raises(ValueError, match=f"missing.*{name}"):
        write_pretrained(out, config, {k: v for k, v in arrays.items() if k != name})
    with pytest.raises(ValueError, match=r"unexpected.*extra"):
        write_pretrained(out, config, arrays | {"extra": arrays[name]})
    with pytest.raises(ValueError, match=r"of another shape.*down_proj"):
        write_pretrained(out, config, arrays | {name: arrays[name].T})
    with pytest.raises(TypeError, match="float16"):
        write_pretrained(out, config, {k: v.astype(np.float16) for k, v in arrays.items()})
    with pytest.raises(TypeError, match="float32, float64"):
        write_pretrained(out, config, arrays | {name: arrays[name].astype(np.float64)})
    arrays[name][3, 7] = np.nan
    with pytest.raises(NonFiniteError, match="nothing was written") as caught:
        write_pretrained(out, config, arrays)
    assert (caught.value.birth.layer, caught.value.birth.tensor, caught.value.birth.index) == (1, name, (3, 7))
    assert not out.exists()


def test_saving_over_a_folder_keeps_its_other_files(bits, make_settings, make_tensors, write_folder):
    folder = write_folder(make_settings("gpt2"), make_tensors("gpt2"))
    (folder / "tokenizer.json").write_text("{}")
    config, arrays, _ = read_pretrained(folder)
    arrays["tok_embed.weight"] += 1
    write_pretrained(folder, config, arrays)
    names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(os.listdir(folder)) == names
    assert bits(read_pretrained(folder)[1]) == bits(arrays)


def test_a_failed_save_leaves_the_old_weights(bits, make_settings, make_tensors, write_folder, monkeypatch):
    folder = write_folder(make_settings("gpt2"), make_tensors("gpt2"))
    config, arrays, _ = read_pretrained(folder)
    before = (folder / "model.safetensors").read_bytes()

    for after in range(3):  # the files are staged one by one
        calls = []

        def full(descriptor, after=after, calls=calls):
            calls.append(descriptor)
            if len(calls) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_pretrained(folder, config, {name: array + 1 for name, array in arrays.items()})
        monkeypatch.undo()
        assert (folder / "model.safetensors").read_bytes() == before
        assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    assert bits(read_pretrained(folder)[1]) == bits(arrays)


def test_a_folder_reached_through_links_loads(make_settings, make_tensors, write_folder, tmp_path):
    """The hub's cache keeps links to blobs."""
    folder = write_folder(make_settings("gpt2"), make_tensors("gpt2"))
    (tmp_path / "cache").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.move(folder / name, tmp_path / "cache" / f"blob-{name}")
        (folder / name).symlink_to(f"../cache/blob-{name}")
    read_pretrained(folder)
