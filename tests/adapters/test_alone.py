"""The folder of an adapter alone opens as the model that it stands on, with it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import loopos
from loopos.cli import folders
from loopos.errors import CheckpointError


@pytest.fixture
def adapter(tmp_path):
    """A folder with an adapter beside that of its base, as Model.save_adapter and peft leave it."""
    config = loopos.ModelConfig(32, 8, 1, 2, 16, norm="rmsnorm", activation="swiglu", position="rope", bias=False)
    loopos.Model(config, seed=0).save_pretrained(tmp_path / "base")
    model = loopos.Model.from_pretrained(tmp_path / "base")
    model.add_adapter(loopos.LoRA(rank=2))
    for view in model.adapter_parameters().values():
        view[...] = np.linspace(-0.5, 0.5, view.size).reshape(view.shape)
    model.save_adapter(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_opens_on_the_model_that_it_names_or_is_given(adapter):
    base, ids = adapter.parent / "base", np.arange(6)[None]
    expected = loopos.Model.from_pretrained(base)
    plain = expected.forward(ids)
    expected.load_adapter(adapter)
    moved = adapter.parent / "moved"
    for load in (loopos.Model.from_pretrained, lambda *given, **named: folders.load(*given, **named).model):
        found = load(str(adapter))
        assert np.array_equal(found.forward(ids), expected.forward(ids))
        assert not np.array_equal(found.forward(ids), plain)
        assert found.adapter == expected.adapter
        base.rename(moved)
        with pytest.raises(FileNotFoundError, match=r"which is no folder here: name the folder of its base.*--base"):
            load(str(adapter))
        assert np.array_equal(load(str(adapter), base=str(moved)).forward(ids), expected.forward(ids))
        moved.rename(base)
    small = loopos.Model.from_pretrained(adapter, weights="int8")
    assert (small.weights, small.adapter) == ("int8", expected.adapter)


def test_an_adapter_that_names_no_model(adapter):
    path = adapter / "adapter_config.json"
    settings = json.loads(path.read_text())
    for base, says in (
        ("someone/base-model", "is one of 'someone/base-model', which is no folder"),
        (None, "names no"),
    ):
        path.write_text(json.dumps(settings | {"base_model_name_or_path": base}))
        with pytest.raises(FileNotFoundError, match=says):
            loopos.Model.from_pretrained(adapter)
    for itself in (None, adapter):
        path.write_text(json.dumps(settings | {"base_model_name_or_path": str(adapter)}))
        with pytest.raises(ValueError, match=r"the base of an adapter is a whole model, and .* is an adapter"):
            loopos.Model.from_pretrained(adapter, base=itself)
    for text in ("[]", "", "{"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
            loopos.Model.from_pretrained(adapter)


def test_an_adapter_is_no_run_to_resume(adapter):
    with pytest.raises(ValueError, match="is an adapter, not a run; to train it further open it"):
        loopos.train(
            loopos.ModelConfig(32, 8, 1, 2, 16), np.arange(30) % 7, resume=adapter, max_steps=1, progress=False
        )
