"""GPT-2 folders against transformers."""

from __future__ import annotations

from hf_against import Against
from hf_sizes import NO_TOKENS

GPT2 = NO_TOKENS | dict(vocab_size=23, n_positions=12, n_embd=16, n_layer=2, n_head=4)
CASES = {
    "plain": GPT2,
    "gelu, n_inner": GPT2 | dict(activation_function="gelu", n_inner=20, layer_norm_epsilon=1e-3),
    "relu, one head": GPT2 | dict(activation_function="relu", n_head=1),
    "tanh": GPT2 | dict(activation_function="gelu_pytorch_tanh", reorder_and_upcast_attn=True),
}


class TestGPT2(Against):
    config, model = "GPT2Config", "GPT2LMHeadModel"
