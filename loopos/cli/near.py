"""What a flag or a key of another tool is called here."""

from __future__ import annotations

import difflib
from collections.abc import Collection

_NEAR = 0.68  # of difflib's ratio: below, "compile" is near "sample"
ELSEWHERE = {  # by names in nanoGPT, transformers, torch and others
    "text": ("data", "dataset", "train_file", "train_data", "input", "file", "corpus"),
    "init": ("model", "model_name", "model_name_or_path", "init_from", "checkpoint", "from_pretrained"),
    "eval_data": ("validation_file", "val_data", "eval_file", "valid_data", "val_file"),
    "held_out": ("val_split", "validation_split", "val_fraction", "test_size"),
    "max_steps": ("steps", "iters", "max_iters", "num_steps", "train_steps", "n_steps", "num_iterations"),
    "epochs": ("num_train_epochs", "num_epochs", "n_epochs", "max_epochs"),
    "batch_size": ("bs", "batch", "per_device_train_batch_size", "micro_batch_size", "train_batch_size"),
    "grad_accum": ("gradient_accumulation_steps", "accumulate_grad_batches", "grad_accum_steps", "accumulation_steps"),
    "seq_len": ("sequence_length", "max_seq_length", "seq_length", "max_length", "max_seq_len"),
    "learning_rate": ("lr", "max_lr", "peak_lr", "rate"),
    "lr_schedule": ("lr_scheduler_type", "scheduler", "schedule", "lr_scheduler", "lr_decay_style"),
    "warmup_steps": ("warmup", "warmup_iters", "num_warmup_steps", "lr_warmup_steps"),
    "weight_decay": ("wd", "decay", "l2"),
    "betas": ("beta1", "beta2", "adam_beta1", "adam_beta2"),
    "eps": ("epsilon", "adam_epsilon"),
    "max_grad_norm": ("grad_clip", "clip", "clip_grad", "gradient_clip_val", "clip_grad_norm", "grad_norm"),
    "eval_every": ("eval_steps", "eval_interval", "val_check_interval", "validate_every"),
    "eval_tokens": ("eval_iters", "eval_batches", "limit_val_batches"),
    "save_every": ("save_steps", "save_interval", "checkpoint_every"),
    "log_every": ("logging_steps", "log_interval", "log_every_n_steps"),
    "keep_best": ("load_best_model_at_end", "save_best", "save_best_only"),
    "patience": ("early_stopping_patience", "early_stopping"),
    "output_dir": ("out", "output", "out_dir", "save_dir", "run_dir", "out_folder"),
    "resume": ("resume_from_checkpoint", "ckpt", "load", "restore"),
    "context_length": ("block_size", "context", "ctx", "n_ctx", "n_positions", "max_position_embeddings"),
    "n_layer": ("layers", "n_layers", "num_layers", "depth", "num_hidden_layers"),
    "n_head": ("heads", "n_heads", "num_heads", "num_attention_heads"),
    "n_kv_head": ("n_kv_heads", "num_key_value_heads", "kv_heads"),
    "d_model": ("n_embd", "dim", "hidden_size", "width", "embed_dim", "d_embed"),
    "d_ff": ("intermediate_size", "ffn_dim", "mlp_dim", "n_inner", "hidden_dim"),
    "lora_rank": ("lora_r", "r", "rank"),
    "lora_alpha": ("alpha",),
    "lora_targets": ("target_modules", "lora_target_modules", "lora_modules"),
    "rslora": ("use_rslora",),
    "dora": ("use_dora",),
    "threads": ("num_threads", "n_threads", "num_workers", "workers", "cpus"),
    "on_nonfinite": ("nan_policy", "on_nan"),
    "precision": ("fp16", "bf16", "amp", "autocast", "mixed_precision", "matmul_precision", "float32_matmul_precision"),
    "weights": ("quantization", "quantize", "use_quantization", "load_in_8bit", "load_in_4bit", "quant"),
    "max_new_tokens": ("tokens", "n_tokens", "num_tokens", "max_tokens", "length", "n_predict"),
    "temperature": ("temp",),
    "prompt": ("start", "input_text"),
}


def near(name: str, known: Collection[str]) -> str | None:
    """What of ``known`` is meant by a name that is not among them: the same but for - and _, a name that other tools
    use, or one that is spelt nearly so. None: nothing is near."""
    name = name.lstrip("-").partition("=")[0].replace("-", "_").lower()
    if name in known:
        return name
    for ours, theirs in ELSEWHERE.items():
        if ours in known and name in theirs:
            return ours
    found = difflib.get_close_matches(name, known, 1, cutoff=_NEAR)
    return found[0] if found else None
