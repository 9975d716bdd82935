"""A bundle comes back bit for bit, or not at all."""

from __future__ import annotations

import dataclasses
import errno
import math
import os

import numpy as np
import pytest

import loopos
from loopos.errors import Birth
from loopos.files import durable
from loopos.files.tensorfile import parse_safetensors, serialize_safetensors
from loopos.optim.training import for_training
from loopos.run.bundle import Bundle, Outcome, build, find_bundle, keep, read_birth, read_bundle, write_bundle
from loopos.run.updates import Update
from loopos.training import default_settings

CONFIG = loopos.ModelConfig(vocab_size=13, context_length=4, n_layer=1, n_head=1, d_model=4)
BIRTH = Birth(7, "backward", 0, "linear", "dx", (1, 2), -math.inf, "a test")
SETTINGS = default_settings(
    max_steps=9, batch_size=2, grad_accum=2, learning_rate=1e-3, max_grad_norm=None, seed=2**64 - 1
)


@pytest.fixture
def bundle():
    model = loopos.Model(CONFIG, seed=1, precision="float32")
    optimizer = for_training("adamw", model)
    parameters = model.parameters()
    parameters["tok_embed.weight"][0, :3] = math.nan, math.inf, -0.0
    ids = np.random.default_rng(0).integers(0, 13, (2, 2, 4))
    targets = ids.copy()
    targets[0, 0, 0] = -100
    update = Update(math.nan, 0.1 + 0.2, 15, 16, BIRTH, batches=tuple(zip(ids, targets, strict=True)))
    return Bundle.of(model, optimizer, SETTINGS, update, step=7, learning_rate=1 / 3)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_documents_of_a_batch_come_back(bundle, tmp_path):
    documents = np.array([[0, 0, 1, 4], [3, 3, 3, 3]])
    first, second = bundle.batches
    own = dataclasses.replace(bundle, batches=((*first, documents), second))
    write_bundle(tmp_path / "b", own)
    back = read_bundle(tmp_path / "b").batches
    assert [len(batch) for batch in back] == [3, 2]
    assert all(same(x, y) for a, b in zip(own.batches, back, strict=True) for x, y in zip(a, b, strict=True))


def test_it_comes_back_bit_for_bit(bundle, tmp_path):
    write_bundle(tmp_path / "b", bundle)
    back = read_bundle(tmp_path / "b")
    for name in ("weights", "moments"):
        ours, theirs = getattr(bundle, name), getattr(back, name)
        assert set(ours) == set(theirs)
        assert all(same(ours[key], theirs[key]) for key in ours)
    assert len(back.batches) == 2
    assert all(same(x, y) for a, b in zip(bundle.batches, back.batches, strict=True) for x, y in zip(a, b, strict=True))
    for name in ("step", "config", "dtype", "settings", "learning_rate", "numbers", "outcome", "build"):
        assert getattr(back, name) == getattr(bundle, name), name
    assert back.outcome.birth == BIRTH
    assert float.fromhex(back.outcome.grad_norm) == 0.1 + 0.2
    assert build("fma") == back.build
    assert os.listdir(tmp_path) == ["b"]


def test_what_differs_is_named(bundle):
    recorded = bundle.outcome
    assert recorded.differences(Outcome("nan", recorded.grad_norm, 15, BIRTH)) == ()
    nan = dataclasses.replace(recorded, birth=dataclasses.replace(BIRTH, value=math.nan))
    assert nan.differences(nan) == (), "a NaN is the same as a NaN"
    other = dataclasses.replace(recorded, grad_norm=math.nextafter(0.1 + 0.2, 1).hex(), birth=None)
    assert [text.split()[0] for text in recorded.differences(other)] == ["grad_norm", "birth"]


def test_every_flipped_bit_and_every_cut_is_refused(bundle, tmp_path):
    path = tmp_path / "b"
    write_bundle(path, bundle)
    sound = path.read_bytes()
    rng = np.random.default_rng(3)
    header = int.from_bytes(sound[:8], "little") + 8
    places = [*rng.integers(0, header, 60), *rng.integers(header, len(sound), 60)]
    for place in map(int, places):
        data = bytearray(sound)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(loopos.CheckpointError) as caught:
            read_bundle(path)
        assert caught.value.path == str(path)
    for length in (0, 7, 8, header, len(sound) - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(loopos.CheckpointError):
            read_bundle(path)
    path.write_bytes(sound + b"\0")
    with pytest.raises(loopos.CheckpointError, match="belong to none"):
        read_bundle(path)


def test_what_is_no_bundle_or_of_another_version(bundle, tmp_path):
    write_bundle(tmp_path / "b", bundle)
    tensors, metadata = parse_safetensors(np.fromfile(tmp_path / "b", np.uint8), "b")
    arrays = {name: tensor.array for name, tensor in tensors.items()}
    for changed, what in (({"version": "2"}, "version '2'"), ({"format": "pt"}, "not a bundle")):
        (tmp_path / "c").write_bytes(serialize_safetensors(arrays, metadata | changed))
        with pytest.raises(loopos.CheckpointError, match=what):
            read_bundle(tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        read_bundle(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(loopos.CheckpointError, match="regular file"):
        read_bundle(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"batches": ()}, "KeyError"),
        ({"batches": ((np.full((1, 4), 13), np.zeros((1, 4), np.int64)),) * 2}, "outside 0..12"),
        ({"step": 0}, "step 0"),
        ({"dtype": "float16"}, "float16"),
        ({"numbers": {}}, None),
    ],
)
def test_a_whole_file_of_nonsense_is_refused(bundle, tmp_path, changed, what):
    write_bundle(tmp_path / "b", dataclasses.replace(bundle, **changed))
    with pytest.raises(loopos.CheckpointError, match=what) as caught:
        loopos.replay(tmp_path / "b")
    assert caught.value.path == str(tmp_path / "b")


def test_the_newest_of_a_run_is_found(bundle, tmp_path):
    with pytest.raises(FileNotFoundError, match="no bundle"):
        find_bundle(tmp_path)
    for step in (12, 7, 100_000_000, 99_999_999):
        path = keep(tmp_path, dataclasses.replace(bundle, step=step))
        assert path == tmp_path / f"bundles/step-{step:08d}.safetensors"
    for folder in (tmp_path, tmp_path / "bundles"):
        assert read_bundle(folder).step == 100_000_000


def test_keeping_replaces_and_clears_what_a_killed_process_left(bundle, tmp_path):
    path = keep(tmp_path, bundle)
    first = path.read_bytes()
    (path.parent / f"{path.name}.tmp.123.abcdef01").write_bytes(b"half")
    (path.parent / "mine").write_bytes(b"")
    assert keep(tmp_path, dataclasses.replace(bundle, learning_rate=0.5)) == path
    assert path.read_bytes() != first
    assert sorted(os.listdir(path.parent)) == ["mine", path.name]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_failed_write_leaves_what_was_there(bundle, tmp_path, monkeypatch, call):
    path = keep(tmp_path, bundle)
    first = path.read_bytes()

    def failing(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, call, failing)
        with pytest.raises(OSError, match="No space left") as caught:
            keep(tmp_path, dataclasses.replace(bundle, learning_rate=0.5))
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == first
    assert os.listdir(path.parent) == [path.name]


def test_the_birth_is_read_from_the_header_alone(bundle, tmp_path):
    path = keep(tmp_path, bundle)
    whole = path.read_bytes()
    assert read_birth(path) == (7, BIRTH, None)
    path.write_bytes(whole[:-8] + bytes(8))  # the data are not what it is about
    assert read_birth(path) == (7, BIRTH, None)
    for damaged in (b"", whole[:-1], whole.replace(b"loopos-bundle", b"loopos-bungle"), b"x" * 5000):
        path.write_bytes(damaged)
        with pytest.raises(loopos.CheckpointError):
            read_birth(path)
    write_bundle(path, dataclasses.replace(bundle, outcome=dataclasses.replace(bundle.outcome, birth=None)))
    assert read_birth(path) == (7, None, None)
