"""One checkpoint: its files are what the format says, the manifest is not trusted, and the state is checked."""

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy

from loopos.errors import CheckpointError
from loopos.files.checkpoint_folder import is_checkpoint, read_folder, write_folder
from loopos.files.durable import sha256

ARRAYS = {"w": np.arange(6.0).reshape(2, 3), "optimizer.exp_avg.w": np.ones((2, 3))}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "step-00000007"
    write_folder(path, 7, ARRAYS, {"a": 1})
    return path


def _rewrite(folder, name, content):
    """Change a file and make the manifest agree, as somebody who means to deceive would."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_the_files_are_plain_formats_that_others_read(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    assert safetensors.numpy.load_file(folder / "model.safetensors")["w"].tolist() == ARRAYS["w"].tolist()
    assert list(safetensors.numpy.load_file(folder / "optimizer.safetensors")) == ["exp_avg.w"]
    assert json.loads((folder / "state.json").read_text()) == {"step": 7, "state": {"a": 1}}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("loopos-checkpoint", 1)
    for name, entry in manifest["files"].items():
        assert entry == {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
    assert is_checkpoint(folder)
    assert not is_checkpoint(folder.parent)


def test_a_folder_is_never_written_over(folder):
    with pytest.raises(FileExistsError, match="cannot make the folder of a checkpoint"):
        write_folder(folder, 7, ARRAYS, {})
    assert read_folder(folder).state == {"a": 1}


def _entries(entry):
    return {"files": {name: entry for name in ("model.safetensors", "optimizer.safetensors", "state.json")}}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"format": "other"}, "not the manifest of a LoopOS checkpoint"),
        ({"version": 2}, "format version 2; this LoopOS reads version 1"),
        ({"version": True}, "format version True"),
        ({"version": 1.0}, "format version 1.0"),
        ({"files": []}, "expected the files"),
        ({"files": {}}, "expected the files"),
        ({"files": {"../../etc/passwd": {"size": 1, "sha256": ""}}}, "expected the files"),
        (_entries(1), "expected a size"),
        (_entries({"size": -1, "sha256": ""}), "expected a size"),
        (_entries({"size": True, "sha256": ""}), "expected a size"),
        (_entries({"size": 1}), "expected a size"),
    ],
)
def test_manifests(folder, change, what):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=what) as caught:
        read_folder(folder)
    assert caught.value.path == str(path)


def test_a_manifest_of_absurd_size_is_not_read(folder):
    (folder / "manifest.json").write_text("[" + " " * 70_000 + "]")
    with pytest.raises(CheckpointError, match="more than the 65536"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("state.json", [], "expected an object with step and state"),
        ("state.json", {"step": 7}, "expected an object with step and state"),
        ("state.json", {"step": 7, "state": {}, "more": 1}, "expected an object with step and state"),
        ("state.json", {"step": -7, "state": {}}, "non-negative integer"),
        ("state.json", {"step": 7.0, "state": {}}, "non-negative integer"),
        ("state.json", {"step": True, "state": {}}, "non-negative integer"),
        ("state.json", {"step": 7, "state": []}, "non-negative integer"),
        ("state.json", {"step": 8, "state": {}}, "named for step 7, but this is step 8"),
        ("state.json", b'{"step": 7, "state": {"x": NaN}}', "NaN is not JSON"),
        ("model.safetensors", b"", "an empty file"),
        ("optimizer.safetensors", b"\x02\0\0\0\0\0\0\0{}x", "belong to none"),
    ],
)
def test_content_with_the_right_checksum_is_still_checked(folder, name, content, what):
    _rewrite(folder, name, content)
    with pytest.raises(CheckpointError, match=what) as caught:
        read_folder(folder)
    assert caught.value.path == str(folder / name)
