"""The tensors of a file: names, order, shapes and dtypes, without transformers."""

import re

import numpy as np
import pytest
from hf_reading import read_pretrained
from safetensors.numpy import load_file, save_file

from loopos.errors import CheckpointError
from loopos.hf import write_pretrained


def test_gpt2_names_order_and_transposes(make_settings, make_tensors, write_folder):
    tensors = make_tensors("gpt2")
    arrays = read_pretrained(write_folder(make_settings("gpt2"), tensors)).arrays
    assert list(arrays)[:6] == [
        "tok_embed.weight",
        "pos_embed.weight",
        "blocks.0.attn_norm.weight",
        "blocks.0.attn_norm.bias",
        "blocks.0.attn.qkv_proj.weight",
        "blocks.0.attn.qkv_proj.bias",
    ]
    assert list(arrays)[10:14] == [f"blocks.0.mlp.{x}_proj.{y}" for x in ("up", "down") for y in ("weight", "bias")]
    assert list(arrays)[-2:] == ["final_norm.weight", "final_norm.bias"]
    assert len(arrays) == len(tensors)
    assert arrays["blocks.1.attn.qkv_proj.weight"].shape == (24, 8)
    np.testing.assert_array_equal(
        arrays["blocks.1.mlp.down_proj.weight"], tensors["transformer.h.1.mlp.c_proj.weight"].T
    )


def test_llama_names_order_and_stacks(make_settings, make_tensors, write_folder):
    tensors = make_tensors("llama")
    arrays = read_pretrained(write_folder(make_settings("llama"), tensors)).arrays
    block = ("attn_norm", "attn.qkv_proj", "attn.o_proj", "mlp_norm", "mlp.gate_up_proj", "mlp.down_proj")
    names = [f"blocks.{i}.{name}.weight" for i in range(2) for name in block]
    assert list(arrays) == ["tok_embed.weight", *names, "final_norm.weight", "lm_head.weight"]
    qkv = [tensors[f"model.layers.1.self_attn.{x}_proj.weight"] for x in "qkv"]
    np.testing.assert_array_equal(arrays["blocks.1.attn.qkv_proj.weight"], np.concatenate(qkv))
    gate_up = [tensors[f"model.layers.0.mlp.{x}_proj.weight"] for x in ("gate", "up")]
    np.testing.assert_array_equal(arrays["blocks.0.mlp.gate_up_proj.weight"], np.concatenate(gate_up))


def test_tied_llama_has_one_matrix(bits, make_settings, make_tensors, write_folder, tmp_path):
    tensors = make_tensors("llama")
    head = tensors.pop("lm_head.weight")
    settings = make_settings("llama", tie_word_embeddings=True)
    config, arrays, _ = read_pretrained(write_folder(settings, tensors))
    assert "lm_head.weight" not in arrays
    write_pretrained(tmp_path / "out", config, arrays)
    assert bits(load_file(tmp_path / "out" / "model.safetensors")) == bits(tensors)
    twice = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].copy()}
    assert bits(read_pretrained(write_folder(settings, twice))[1]) == bits(arrays)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs"):
        read_pretrained(write_folder(settings, tensors | {"lm_head.weight": head}))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is \(10, 8\)"):
        read_pretrained(write_folder(settings, tensors | {"lm_head.weight": head[:10]}))


def test_bare_names_buffers_and_a_duplicate_head_load(family, bits, make_settings, make_tensors, write_folder):
    tensors = make_tensors(family)
    settings = make_settings(family)
    arrays = read_pretrained(write_folder(settings, tensors)).arrays
    bare = {name.removeprefix("transformer.").removeprefix("model."): array for name, array in tensors.items()}
    stray = {
        "gpt2": {
            "h.0.attn.bias": np.tril(np.ones((1, 1, 6, 6), dtype=np.uint8)),
            "h.1.attn.bias": np.tril(np.ones((1, 1, 6, 6), dtype=bool)),
            "h.1.attn.masked_bias": np.array(-1e4, dtype=np.float64),
            "lm_head.weight": tensors.get("transformer.wte.weight"),
        },
        "llama": {"layers.1.self_attn.rotary_emb.inv_freq": np.ones(1), "rotary_emb.inv_freq": np.ones(1)},
    }[family]
    prefix = {"gpt2": "transformer.", "llama": "model."}[family]
    prefixed = {name if name == "lm_head.weight" else prefix + name: array for name, array in stray.items()}
    for added in (bare, bare | stray, tensors | prefixed):
        assert bits(read_pretrained(write_folder(settings, added))[1]) == bits(arrays)


def test_names_that_only_look_like_buffers_do_not_load(make_settings, make_tensors, write_folder):
    for name in ("transformer.h.0.attn.bias2", "transformer.h.x.attn.bias", "h.0.attn.bias", "transformer.attn.bias"):
        tensors = make_tensors("gpt2") | {name: np.ones(3, dtype=np.float32)}
        with pytest.raises(CheckpointError, match=re.escape(name)):
            read_pretrained(write_folder(make_settings("gpt2"), tensors))


def test_missing_unexpected_and_misshapen_are_all_listed(family, make_settings, make_tensors, write_folder):
    tensors = make_tensors(family)
    names = sorted(name for name in tensors if ".0." in name)
    del tensors[names[0]], tensors[names[1]]
    tensors[names[2]] = tensors[names[2]][None]
    tensors["score.weight"] = np.ones(3, dtype=np.float32)
    with pytest.raises(CheckpointError, match=re.escape(names[1])) as caught:
        read_pretrained(write_folder(make_settings(family), tensors))
    for name in (names[0], names[2], "score.weight", "2 missing", "1 unexpected"):
        assert name in str(caught.value)


def test_a_layer_too_few_or_too_many(make_settings, make_tensors, write_folder):
    tensors = make_tensors("gpt2")
    with pytest.raises(CheckpointError, match=r"unexpected: .*h\.1\."):
        read_pretrained(write_folder(make_settings("gpt2", n_layer=1), tensors))
    with pytest.raises(CheckpointError, match=r"missing: .*h\.2\."):
        read_pretrained(write_folder(make_settings("gpt2", n_layer=3), tensors))
    with pytest.raises(CheckpointError, match="layers"):  # at once, and without making a list of that length
        read_pretrained(write_folder(make_settings("gpt2", n_layer=10**15), tensors))


def test_an_untransposed_file_does_not_load(make_settings, make_tensors, write_folder):
    tensors = make_tensors("gpt2")
    name = "transformer.h.0.mlp.c_fc.weight"
    tensors[name] = tensors[name].T
    with pytest.raises(CheckpointError, match=re.escape(f"{name} is (32, 8), expected (8, 32)")):
        read_pretrained(write_folder(make_settings("gpt2"), tensors))


def test_half_precision_needs_a_dtype_and_widens_exactly(family, bits, make_settings, make_tensors, write_folder):
    tensors = make_tensors(family, np.float16)
    next(iter(tensors.values())).reshape(-1)[:4] = [6e-8, -0.0, np.inf, 65504]
    folder = write_folder(make_settings(family), tensors)
    with pytest.raises(ValueError, match="dtype="):
        read_pretrained(folder)
    same = write_folder(make_settings(family), {name: array.astype(np.float64) for name, array in tensors.items()})
    assert bits(read_pretrained(folder, "float64")[1]) == bits(read_pretrained(same)[1])
    assert {a.dtype for a in read_pretrained(folder, "float32")[1].values()} == {np.dtype("float32")}


def test_widening_is_exact_and_narrowing_rounds(family, bits, make_settings, make_tensors, write_folder):
    settings = make_settings(family)
    wide = read_pretrained(write_folder(settings, make_tensors(family)), "float64")[1]
    assert {a.dtype for a in wide.values()} == {np.dtype("float64")}
    narrow = read_pretrained(write_folder(settings, make_tensors(family, np.float64)), "float32")[1]
    expected = read_pretrained(write_folder(settings, make_tensors(family, np.float64)))[1]
    assert bits(narrow) == bits({name: array.astype(np.float32) for name, array in expected.items()})


def test_narrowing_beyond_the_range_is_refused(make_settings, make_tensors, write_folder):
    tensors = make_tensors("gpt2", np.float64)
    tensors["transformer.h.1.mlp.c_fc.weight"][2, 5] = -1e39
    folder = write_folder(make_settings("gpt2"), tensors)
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp\.up_proj\.weight\[5, 2\].*1e\+39.*float32"):
        read_pretrained(folder, "float32")
    tensors["transformer.h.1.mlp.c_fc.weight"][2, 5] = -np.inf  # was infinite before: not hidden, not refused
    read_pretrained(write_folder(make_settings("gpt2"), tensors), "float32")


def test_mixed_and_integer_weights(make_settings, make_tensors, write_folder):
    tensors = make_tensors("gpt2")
    name = "transformer.ln_f.bias"
    for dtype in (np.float64, np.float16, np.int64):
        folder = write_folder(make_settings("gpt2"), tensors | {name: tensors[name].astype(dtype)})
        with pytest.raises(CheckpointError, match="one dtype"):
            read_pretrained(folder, "float32")
    integers = write_folder(make_settings("gpt2"), {name: array.astype(np.int32) for name, array in tensors.items()})
    with pytest.raises(CheckpointError, match="got I32"):
        read_pretrained(integers, "float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "f4", 32, np.float32, ""])
def test_other_dtypes(dtype, make_settings, make_tensors, write_folder):
    with pytest.raises(ValueError, match="dtype must be"):
        read_pretrained(write_folder(make_settings("gpt2"), make_tensors("gpt2")), dtype)


def test_bfloat16_is_the_upper_half_of_float32(bits, make_settings, make_tensors, write_folder):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    tensors = {name: torch.from_numpy(array).bfloat16() for name, array in make_tensors("gpt2").items()}
    folder = write_folder(make_settings("gpt2"), None)
    save_torch(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"BF16.*dtype="):
        read_pretrained(folder)
    for dtype in ("float32", "float64"):
        wide = {name: tensor.to(getattr(torch, dtype)).numpy() for name, tensor in tensors.items()}
        same = write_folder(make_settings("gpt2"), None)
        save_file(wide, same / "model.safetensors")
        assert bits(read_pretrained(folder, dtype)[1]) == bits(read_pretrained(same)[1])
