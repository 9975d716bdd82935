"""Tiny models of GGUF's architectures, with a tokenizer."""

import numpy as np
import pytest

import loopos
from loopos import Tokenizer
from loopos.gguf.container import open_container
from loopos.gguf.values import Metadata
from loopos.rope import RopeScaling

TEXT = "The miller had 3 sons, his mill, his ass, and his cat. They're 12 don't ünïcödé 你好 😀\n" * 9
LLAMA = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "bias": False}
SHAPE = {"vocab_size": 300, "context_length": 64, "n_layer": 2, "n_head": 4, "d_model": 64, "n_kv_head": 2, "d_ff": 96}


@pytest.fixture(autouse=True)
def _extras():
    for package in ("gguf", "tokenizers", "jinja2"):
        pytest.importorskip(package, reason="the extra [gguf]")


@pytest.fixture
def tokenizer():
    made = Tokenizer.train([TEXT], 290, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made.backend.add_tokens(["miller"])
    made.config |= {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    made.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    return made


GEMMA = {
    "activation": "geglu_tanh",
    "qk_norm": "head",
    "norm_placement": "both",
    "norm_unit_offset": True,
    "embedding_scale": 8.0,
    "sliding_window": 8,
    "n_layer": 7,
    "layer_types": ("sliding",) * 5 + ("full", "sliding"),
    "local_rope_theta": 10000.0,
    "rope_theta": 1e6,
    "tie_embeddings": True,
}
MODELS = {
    "llama": {},
    "llama tied, wide heads": {"tie_embeddings": True, "head_dim": 32},
    "llama linear": {"rope_scaling": RopeScaling(rope_type="linear", factor=4.0)},
    "llama yarn": {"rope_scaling": RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)},
    "llama 3.2": {
        "rope_theta": 5e5,
        "rope_scaling": RopeScaling(
            rope_type="llama3",
            factor=32.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    },
    "qwen2": {"attention_bias": "qkv"},
    "qwen3": {"qk_norm": "head", "head_dim": 32},
    "gemma3": GEMMA,
    "gemma3 linear": GEMMA | {"rope_scaling": RopeScaling(rope_type="linear", factor=8.0)},
}


@pytest.fixture
def llama(tokenizer):
    """llama(**changed): a random model of the Llama family that reads with ``tokenizer``."""

    def make(**changed):
        model = loopos.Model(loopos.ModelConfig(**SHAPE | LLAMA | {"tie_embeddings": False} | changed), seed=3)
        rng = np.random.default_rng(4)
        for view in model.parameters().values():  # as large as trained ones, so that every part of a block counts
            view += rng.standard_normal(view.shape).astype(np.float32) * (0.2 if view.ndim == 1 else 0.15)
        model.tokenizer = tokenizer
        return model

    return make


@pytest.fixture(params=MODELS)
def model(request, llama):
    """A random one of each architecture."""
    return llama(**MODELS[request.param])


@pytest.fixture
def metadata():
    """metadata(path): of a file."""
    return lambda path: Metadata(open_container(path))
