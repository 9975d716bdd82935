"""What a model's attention sees: a sliding window, and heads of a width of their own."""

from __future__ import annotations

import numpy as np
import pytest

import loopos

SIZE = dict(vocab_size=61, context_length=24, n_layer=2, n_head=4, d_model=16)
LLAMA = dict(norm="rmsnorm", activation="swiglu", position="rope", bias=False, n_kv_head=2)
SHAPES = {
    "window": dict(sliding_window=5),
    "window of itself alone": dict(sliding_window=1),
    "heads wider than the model": dict(head_dim=6),
    "narrow heads, odd count": dict(n_head=3, n_kv_head=1, head_dim=2),
    "both": dict(head_dim=10, sliding_window=3),
}


def model_of(dtype="float32", family=None, **shape):
    model = loopos.Model(loopos.ModelConfig(**(SIZE | (family or {}) | shape)), seed=2, dtype=dtype)
    rng = np.random.default_rng(3)
    for view in model.parameters().values():
        view += rng.normal(0, 0.1, view.shape).astype(view.dtype)
    return model


@pytest.mark.parametrize("family", [{}, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gradients_cache_and_dtypes(family, shape):
    config = loopos.ModelConfig(**(SIZE | family | shape))
    model, wide = (model_of(dtype, family, **shape) for dtype in ("float32", "float64"))
    ids, targets = np.random.default_rng(1).integers(0, 61, (2, 2, 9))
    loopos.gradcheck(wide, (ids, targets))
    assert sum(view.size for view in model.parameters().values()) == config.num_parameters()
    wide.load_state_dict({name: x.astype(np.float64) for name, x in model.state_dict().items()})
    ids = np.random.default_rng(0).integers(0, 61, (3, 24))
    exact = wide.forward(ids)
    np.testing.assert_allclose(model.forward(ids), exact, rtol=0, atol=2e-5 * np.abs(exact).max())
    np.testing.assert_array_equal(model.forward(np.tile(ids, (40, 1)))[:3], model.forward(ids))  # in parts, as a whole
    ids = wide.generate(ids[:, :7], 17, temperature=0)  # through the cache
    np.testing.assert_array_equal(ids[:, 7:], wide.forward(ids)[:, 6:-1].argmax(2))


@pytest.mark.parametrize("family", [{}, LLAMA], ids=["gpt2", "llama"])
def test_a_token_feels_what_the_windows_of_all_layers_reach(family):
    window, layers, last = 4, 2, 20
    model, ids = model_of("float64", family, sliding_window=window), np.zeros((1, 24), np.int64)
    before = model.forward(ids)[0, last]
    felt = []
    for position in range(24):
        other = ids.copy()
        other[0, position] = 9
        if np.any(model.forward(other)[0, last] != before):
            felt.append(position)
    assert felt == list(range(last - layers * (window - 1), last + 1))


def test_a_window_that_hides_nothing_changes_no_bit():
    ids = np.random.default_rng(0).integers(0, 61, (5, 24))
    np.testing.assert_array_equal(model_of(sliding_window=24).forward(ids), model_of().forward(ids))
    assert np.any(model_of(sliding_window=23).forward(ids) != model_of().forward(ids))


def test_training_with_both_learns_and_dropout_runs():
    model = model_of(head_dim=8, sliding_window=3, dropout=0.1)
    data = np.tile(np.arange(60), 30)
    result = loopos.train(model, data, max_steps=150, batch_size=8, learning_rate=1e-2, progress=False)
    assert result.history[-1]["loss"] < 0.5


def test_a_family_without_them_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="sliding_window=0, not 5"):
        model_of(sliding_window=5).save_pretrained(tmp_path / "a")
    with pytest.raises(ValueError, match="head_dim=4, not 6"):
        model_of(head_dim=6).save_pretrained(tmp_path / "b")
    model_of(head_dim=4).save_pretrained(tmp_path / "c")
    assert loopos.Model.from_pretrained(tmp_path / "c").config.head_width == 4


@pytest.mark.parametrize(("batch", "length"), [(1, 2**40), (1, 2**62), (2**62, 1), (2**40, 2**40)])
def test_a_cache_that_no_memory_holds_is_refused_and_leaves_none(batch, length):
    """Its size does not wrap, and what was started before is not continued in memory that was given up."""
    config = loopos.ModelConfig(16, 2**63 - 1, n_layer=2, n_head=2, d_model=8, position="rope")
    core, ids = loopos.Model(config, seed=1)._core, np.arange(4).reshape(1, 4)
    core.start_generation(1, 8)
    with pytest.raises(MemoryError, match="the key/value cache of generation needs"):
        core.start_generation(batch, length)
    with pytest.raises(ValueError, match="do not continue the generation that was started"):
        core.next_logits(ids)
    core.start_generation(1, 8)
    np.testing.assert_allclose(core.next_logits(ids), core.forward(ids)[:, -1], rtol=1e-5, atol=1e-6)
