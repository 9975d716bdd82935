"""Hugging Face folders made by hand, so that nothing here rests on the code under test."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file


def gpt2_settings(**changes):
    settings = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": 11,
        "n_positions": 6,
        "n_embd": 8,
        "n_layer": 2,
        "n_head": 2,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.25,
    }
    return settings | changes


def llama_settings(**changes):
    settings = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 11,
        "max_position_embeddings": 16,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
        "tie_word_embeddings": False,
    }
    return settings | changes


def gpt2_tensors(dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = {"wte.weight": (11, 8), "wpe.weight": (6, 8), "ln_f.weight": (8,), "ln_f.bias": (8,)}
    for i in range(2):
        shapes |= {f"h.{i}.{ln}.{kind}": (8,) for ln in ("ln_1", "ln_2") for kind in ("weight", "bias")}
        for name, rows, columns in (
            ("attn.c_attn", 8, 24),
            ("attn.c_proj", 8, 8),
            ("mlp.c_fc", 8, 32),
            ("mlp.c_proj", 32, 8),
        ):
            shapes |= {f"h.{i}.{name}.weight": (rows, columns), f"h.{i}.{name}.bias": (columns,)}
    return {f"transformer.{name}": rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def llama_tensors(dtype=np.float32):
    rng = np.random.default_rng(1)
    shapes = {"model.embed_tokens.weight": (11, 8), "model.norm.weight": (8,), "lm_head.weight": (11, 8)}
    for i in range(2):
        for name, shape in {
            "input_layernorm": (8,),
            "post_attention_layernorm": (8,),
            "self_attn.q_proj": (8, 8),
            "self_attn.k_proj": (4, 8),
            "self_attn.v_proj": (4, 8),
            "self_attn.o_proj": (8, 8),
            "mlp.gate_proj": (12, 8),
            "mlp.up_proj": (12, 8),
            "mlp.down_proj": (8, 12),
        }.items():
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


@pytest.fixture
def make_settings():
    """``make_settings("gpt2", n_head=4)``: a config.json as a dict."""
    return lambda family, **changes: {"gpt2": gpt2_settings, "llama": llama_settings}[family](**changes)


@pytest.fixture
def make_tensors():
    """``make_tensors("llama", np.float64)``: the tensors of a file of that family."""
    return lambda family, dtype=np.float32: {"gpt2": gpt2_tensors, "llama": llama_tensors}[family](dtype)


@pytest.fixture
def write_folder(tmp_path):
    """``write_folder(settings, tensors)``: a fresh folder with both files; settings may be text, written as it is."""
    made = []

    def write(settings, tensors):
        folder = tmp_path / f"folder{len(made)}"
        made.append(folder)
        folder.mkdir()
        text = settings if isinstance(settings, str) else json.dumps(settings)
        (folder / "config.json").write_text(text)
        if tensors is not None:
            tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return write


@pytest.fixture(params=["gpt2", "llama"])
def family(request):
    return request.param


@pytest.fixture
def bits():
    """``bits(arrays)``: what two dicts of arrays must share to be the same bit for bit."""
    return lambda arrays: {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}
