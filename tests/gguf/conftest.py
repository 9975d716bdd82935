"""Tiny models of GGUF's architectures, with a tokenizer."""

import pytest

import loopos
from loopos import Tokenizer
from loopos.gguf.container import open_container
from loopos.gguf.values import Metadata

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


@pytest.fixture
def llama(tokenizer):
    """llama(**changed): a random model of the Llama family that reads with ``tokenizer``."""

    def make(**changed):
        model = loopos.Model(loopos.ModelConfig(**SHAPE | LLAMA | {"tie_embeddings": False} | changed), seed=3)
        for name, view in model.parameters().items():
            if view.ndim == 1:
                view[...] += 0.1 * (hash(name) % 7)
        model.tokenizer = tokenizer
        return model

    return make


@pytest.fixture
def metadata():
    """metadata(path): of a file."""
    return lambda path: Metadata(open_container(path))
