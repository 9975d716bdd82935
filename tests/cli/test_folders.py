"""Models out of folders, and texts longer than the context."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.cli.folders import continued, following, load

CONFIG = loopos.ModelConfig(256, 8, 1, 2, 16)


def test_a_run_a_checkpoint_and_a_hugging_face_folder_hold_the_same_model(tmp_path):
    trained = loopos.train(CONFIG, "to be or not. " * 20, max_steps=2, output_dir=tmp_path / "run", progress=False)
    trained.model.save_pretrained(tmp_path / "hf")
    before = trained.model.state_dict()
    for folder in (tmp_path / "run", tmp_path / "run" / "step-00000002", tmp_path / "hf"):
        loaded = load(str(folder))
        assert all((loaded.model.state_dict()[name] == before[name]).all() for name in before)
    assert load(str(tmp_path / "run")).model.tokenizer.vocab_size == 256
    assert load(str(tmp_path / "run")).step == 2
    assert load(str(tmp_path / "hf"))[1:] == (None, {})


@pytest.mark.parametrize(("weights", "dtype"), [(None, "float32"), (None, "float64"), ("int8", None)])
def test_bfloat16_becomes_float32_unless_something_else_is_asked_for(tmp_path, weights, dtype):
    given = loopos.Model(CONFIG, weights="bfloat16")
    given.parameters()["pos_embed.weight"][...] = 0.5  # a number that bfloat16 has
    given.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds BF16, in which LoopOS does not compute"):
        loopos.Model.from_pretrained(tmp_path)
    opened = load(str(tmp_path), weights=weights, dtype=dtype if dtype == "float64" else None).model
    assert (opened.weights, opened.dtype) == (weights or dtype, dtype or "float32")
    if weights is None:
        ids = np.array([[1, 2, 3]])
        np.testing.assert_allclose(opened.forward(ids), given.forward(ids), atol=1e-6)


def test_within_the_context_it_is_generate():
    model, prompt = loopos.Model(CONFIG), np.array([1, 2, 3])
    assert (continued(model, prompt, 5, temperature=0) == model.generate(prompt[None], 5, temperature=0)[0]).all()


def test_beyond_the_context_the_newest_half_is_kept():
    model, prompt = loopos.Model(CONFIG), np.array([1, 2, 3])
    found = continued(model, prompt, 9, temperature=0)
    first = model.generate(prompt[None], 5, temperature=0)[0]
    assert (found[:8] == first).all()
    assert (found[8:] == model.generate(first[None, 4:], 4, temperature=0)[0, 4:]).all()


def test_a_context_of_one_leaves_no_room():
    with pytest.raises(ValueError, match="context_length 1 leaves no room"):
        continued(loopos.Model(loopos.ModelConfig(256, 1, 1, 2, 16)), np.array([1]), 1)


def test_ids_come_one_by_one():
    model, prompt = loopos.Model(CONFIG), np.array([1, 2, 3])
    coming = following(model, prompt, 9, temperature=0)
    assert [next(coming), next(coming)] == model.generate(prompt[None], 2, temperature=0)[0, 3:].tolist()
    assert [1, 2, 3, *following(model, prompt, 9, temperature=0)] == continued(model, prompt, 9, temperature=0).tolist()
