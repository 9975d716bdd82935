"""loopos/gguf/tensors.py: names of all parameters, and the order of the rows of q and k."""

import numpy as np
import pytest

import loopos
from loopos import ops
from loopos.gguf.architectures import ARCHITECTURES
from loopos.gguf.tensors import halves_from_pairs, pairs_from_halves, slots


@pytest.mark.parametrize("tie", [False, True])
def test_every_parameter_has_its_tensors(llama, tie):
    model = llama(tie_embeddings=tie)
    found = {slot.name: slot for slot in slots(model.config, ARCHITECTURES["llama"])}
    assert {name: slot.shape for name, slot in found.items()} == {n: a.shape for n, a in model.parameters().items()}
    assert all(sum(part.rows for part in slot.parts) == slot.shape[0] for slot in found.values())
    names = [part.name for slot in found.values() for part in slot.parts]
    assert len(set(names)) == len(names) == 9 * 2 + 2 + (not tie)
    assert ("output.weight" in names) is not tie


def test_rope_of_neighbours_in_the_other_order_is_rope_of_halves():
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((3 * 8, 5)), rng.standard_normal((5, 4))
    turned = pairs_from_halves(weight, 3)
    assert np.array_equal(halves_from_pairs(turned, 3), weight)
    ours, theirs = (np.ascontiguousarray((w @ x).reshape(1, 3, 8, 4).swapaxes(2, 3)) for w in (weight, turned))
    at = np.arange(4)
    a, b = ops.rope(ours, at), ops.rope(theirs, at, interleaved=True)
    np.testing.assert_allclose(a @ a.swapaxes(2, 3), b @ b.swapaxes(2, 3), rtol=1e-12)


def test_biases_and_norms_of_the_other_architectures():
    shape = {"vocab_size": 9, "context_length": 8, "n_layer": 1, "n_head": 4, "d_model": 16, "n_kv_head": 2}
    more = {"bias": False, "attention_bias": "qkv", "qk_norm": "head", "norm_placement": "both"}
    config = loopos.ModelConfig(**shape, **more, norm="rmsnorm", position="rope", activation="swiglu")
    names = [part.name for slot in slots(config, ARCHITECTURES["qwen2"]) for part in slot.parts]
    expected = ["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_q_norm.weight", "attn_k_norm.weight"]
    for name in (*expected, "post_attention_norm.weight", "post_ffw_norm.weight"):
        assert f"blk.0.{name}" in names
    assert "blk.0.attn_output.bias" not in names
