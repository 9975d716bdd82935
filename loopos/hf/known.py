"""The keys of config.json that transformers gives to models of every family, and what each means for LoopOS.

A key is NEUTRAL (it would change the numbers, unless it has one of the values listed), or it is bookkeeping that no
logit depends on. What is neither, and not translated by its family, is refused by name.
"""

from __future__ import annotations

from typing import Any

SOURCE = "transformers 5.24.0"  # whose PreTrainedConfig and GenerationConfig the next two are; tests/hf compares

PRETRAINED = frozenset(
    """
    architectures chunk_size_feed_forward dtype id2label label2id model_type output_attentions output_hidden_states
    problem_type return_dict transformers_version
    """.split()  # noqa: SIM905 (a list would take a line each)
)
GENERATION = frozenset(
    """
    assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind bad_words_ids
    begin_suppress_tokens bos_token_id cache_config cache_implementation compile_config constraints
    continuous_batching_config decoder_start_token_id disable_compile diversity_penalty do_sample dola_layers
    early_stopping encoder_no_repeat_ngram_size encoder_repetition_penalty eos_token_id epsilon_cutoff eta_cutoff
    exponential_decay_length_penalty force_words_ids forced_bos_token_id forced_eos_token_id guidance_scale
    is_assistant length_penalty low_memory max_cache_len max_length max_matching_ngram_size max_new_tokens max_time
    min_length min_new_tokens min_p no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule
    num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states output_logits output_scores
    pad_token_id penalty_alpha prefill_chunk_size prompt_lookup_num_tokens remove_invalid_values renormalize_logits
    repetition_penalty return_dict_in_generate sequence_bias speculation_type stop_strings suppress_tokens
    target_lookbehind temperature token_healing top_h top_k top_p transformers_version typical_p use_cache use_mtp
    watermarking_config
    """.split()  # noqa: SIM905
)
# Of transformers 2 to 4, and of tools around it. reorder_and_upcast_attn asks for float32 attention, pretraining_tp
# for sliced products: the same but for rounding.
OLDER = frozenset(
    """
    attn_implementation experts_implementation finetuning_task gradient_checkpointing initializer_range is_decoder
    is_llama_config loss_type max_sequence_length name_or_path num_labels output_past prefix pretraining_tp
    task_specific_params tf_legacy_loss tie_last_hidden_states tokenizer_class torch_dtype torchscript
    transformers.js_config unsloth_fixed unsloth_version use_bfloat16 use_return_dict xla_device
    """.split()  # noqa: SIM905
)
HARMLESS = PRETRAINED | GENERATION | OLDER

# Settings that would change the numbers, each with the values that do not. null is always one of them.
NEUTRAL: dict[str, tuple] = {
    "add_cross_attention": (False,),
    "attention_chunk_size": (),
    "cross_attention_hidden_size": (),
    "is_causal": (True,),
    "is_encoder_decoder": (False,),
    "per_layer_config": ({}, []),
    "pruned_heads": ({},),
    "sliding_window": (),
    "tie_encoder_decoder": (False,),
    "use_sliding_window": (False,),
}
QUANTIZATION = ("quantization_config", "compression_config")


def is_bookkeeping(key: str, harmless: frozenset[str]) -> bool:
    """Whether no number depends on ``key``: listed, private to transformers, or the id of a special token."""
    return key in harmless or key.startswith("_") or key.endswith(("_token_id", "_token_ids"))


def quantized_with(value: Any) -> str | None:
    """The method by which a quantization_config says that the weights are quantized; None where they are not: null,
    false, an empty object, or bitsandbytes' with both of its switches off."""
    if not value:
        return None
    if not isinstance(value, dict):
        return "a method it does not name"
    switches = [value[name] for name in ("load_in_4bit", "load_in_8bit") if name in value]
    if len(switches) == 2 and not any(switches):
        return None
    return str(value.get("quant_method") or value.get("quantization_status") or "a method it does not name")[:40]
