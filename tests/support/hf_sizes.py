"""config.json of small models of each family."""

from __future__ import annotations

NO_TOKENS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
SIZES = NO_TOKENS | dict(
    vocab_size=23,
    max_position_embeddings=12,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
)
GROUPED = SIZES | dict(num_key_value_heads=2)
SMALL = {
    name: {"model_type": name} | settings
    for name, settings in {
        "gpt2": NO_TOKENS | dict(vocab_size=23, n_positions=12, n_embd=16, n_layer=2, n_head=4),
        "llama": GROUPED,
        "mistral": GROUPED | dict(sliding_window=5),
        "qwen2": GROUPED,
        "qwen3": GROUPED | dict(head_dim=6),
        "gemma3_text": GROUPED
        | dict(
            head_dim=8, query_pre_attn_scalar=11, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
        ),
        "smollm3": GROUPED | dict(no_rope_layers=[1, 0], tie_word_embeddings=False),
        "gpt_neox": SIZES | dict(hidden_size=32),
        "phi3": GROUPED,
        "olmo2": GROUPED,
    }.items()
}
