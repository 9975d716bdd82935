"""config.json of models as they were published: each opens, and has as many parameters as its authors say."""

from __future__ import annotations

import pytest

from loopos.hf.settings import config_from_json, describes, family_of

COMMON = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1",
    "use_cache": True,
}


def sizes(width, hidden, layers, heads, kv, context, vocabulary, tied):
    return COMMON | {
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "max_position_embeddings": context,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
QWEN2 = {"model_type": "qwen2", "rms_norm_eps": 1e-06, "use_sliding_window": False}
QWEN3 = {
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "max_window_layers": 28,
    "rms_norm_eps": 1e-06,
}
GEMMA3 = {
    "model_type": "gemma3_text",
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_act": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
}
PUBLISHED = {
    "GPT-2": (
        124_439_808,
        {
            "activation_function": "gelu_new",
            "architectures": ["GPT2LMHeadModel"],
            "attn_pdrop": 0.1,
            "bos_token_id": 50256,
            "embd_pdrop": 0.1,
            "eos_token_id": 50256,
            "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-05,
            "model_type": "gpt2",
            "n_ctx": 1024,
            "n_embd": 768,
            "n_head": 12,
            "n_layer": 12,
            "n_positions": 1024,
            "resid_pdrop": 0.1,
            "summary_activation": None,
            "summary_first_dropout": 0.1,
            "summary_proj_to_labels": True,
            "summary_type": "cls_index",
            "summary_use_proj": True,
            "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
            "vocab_size": 50257,
        },
    ),
    "SmolLM2-135M": (
        134_515_008,
        sizes(576, 1536, 30, 9, 3, 8192, 49152, True)
        | {
            "model_type": "llama",
            "attention_bias": False,
            "is_llama_config": True,
            "mlp_bias": False,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_interleaved": False,
            "rope_scaling": None,
            "rope_theta": 100000,
            "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
        },
    ),
    "Llama-3.2-1B": (
        1_235_814_400,
        sizes(2048, 8192, 16, 32, 8, 131072, 128256, True)
        | {
            "model_type": "llama",
            "attention_bias": False,
            "eos_token_id": [128001, 128008, 128009],
            "head_dim": 64,
            "mlp_bias": False,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": LLAMA3,
            "rope_theta": 500000.0,
        },
    ),
    "Mistral-7B-v0.1": (
        7_241_732_096,
        sizes(4096, 14336, 32, 32, 8, 32768, 32000, False)
        | {"model_type": "mistral", "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096},
    ),
    "Qwen2.5-0.5B": (
        494_032_768,
        sizes(896, 4864, 24, 14, 2, 32768, 151936, True)
        | QWEN2
        | {"max_window_layers": 24, "rope_theta": 1000000.0, "sliding_window": 32768, "use_mrope": False},
    ),
    "Qwen2.5-7B-Instruct with YaRN": (
        7_615_616_512,
        sizes(3584, 18944, 28, 28, 4, 32768, 152064, False)
        | QWEN2
        | {
            "max_window_layers": 28,
            "rope_theta": 1000000.0,
            "sliding_window": 131072,
            "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"},
        },
    ),
    "Qwen3-0.6B": (
        596_049_920,
        sizes(1024, 3072, 28, 16, 8, 40960, 151936, True)
        | QWEN3
        | {"rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "use_sliding_window": False},
    ),
    "Gemma 3 1B": (
        999_885_952,
        sizes(1152, 6912, 26, 4, 1, 32768, 262144, True) | GEMMA3 | {"sliding_window_pattern": 6},
    ),
    "Gemma 3 270M": (
        268_098_176,
        sizes(640, 2048, 18, 4, 1, 32768, 262144, True)
        | GEMMA3
        | {
            "_sliding_window_pattern": 6,
            "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
            "use_bidirectional_attention": False,
        },
    ),
    "SmolLM3-3B": (
        3_075_098_624,
        sizes(2048, 11008, 36, 16, 4, 65536, 128256, True)
        | {
            "model_type": "smollm3",
            "attention_bias": False,
            "layer_types": ["full_attention"] * 36,
            "max_window_layers": 28,
            "mlp_bias": False,
            "no_rope_layer_interval": 4,
            "no_rope_layers": [1, 1, 1, 0] * 9,
            "pretraining_tp": 2,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 5000000.0,
            "sliding_window": None,
            "use_sliding_window": False,
        },
    ),
    "Pythia 70M": (
        70_426_624,
        {
            "architectures": ["GPTNeoXForCausalLM"],
            "bos_token_id": 0,
            "eos_token_id": 0,
            "hidden_act": "gelu",
            "hidden_size": 512,
            "initializer_range": 0.02,
            "intermediate_size": 2048,
            "layer_norm_eps": 1e-05,
            "max_position_embeddings": 2048,
            "model_type": "gpt_neox",
            "num_attention_heads": 8,
            "num_hidden_layers": 6,
            "rotary_emb_base": 10000,
            "rotary_pct": 0.25,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "use_cache": True,
            "use_parallel_residual": True,
            "vocab_size": 50304,
        },
    ),
    "Phi-3-mini-4k": (
        3_821_079_552,
        sizes(3072, 8192, 32, 32, 32, 4096, 32064, False)
        | {
            "model_type": "phi3",
            "attention_bias": False,
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
            "embd_pdrop": 0.0,
            "original_max_position_embeddings": 4096,
            "resid_pdrop": 0.0,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "sliding_window": 2047,
        },
    ),
    "OLMo 2 1B": (
        1_484_916_736,
        sizes(2048, 8192, 16, 16, 16, 4096, 100352, False)
        | {
            "model_type": "olmo2",
            "attention_bias": False,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 500000,
        },
    ),
}


@pytest.mark.parametrize(("parameters", "values"), PUBLISHED.values(), ids=PUBLISHED)
def test_it_opens_with_all_its_parameters(parameters, values):
    config = config_from_json("config.json", values)
    assert config.num_parameters() == parameters
    assert family_of(config, values["model_type"]) == values["model_type"]
    assert describes(values, config)
