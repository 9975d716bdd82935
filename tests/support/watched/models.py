"""Real architectures of transformers, made at random and tiny, each with a batch and its own loss."""

from __future__ import annotations

from typing import Any

import torch

V, T, B = 32, 8, 4


def ids(rows: int = B, length: int = T) -> torch.Tensor:
    return torch.randint(3, V, (rows, length))


def _own_loss(model: Any, batch: Any) -> torch.Tensor:
    return model(**batch).loss


def gpt2(**more: Any) -> tuple[Any, Any, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": V, "n_positions": 16, "bos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(**settings, eos_token_id=1, **more))
    x = ids()
    return model, {"input_ids": x, "labels": x}, _own_loss


_DECODER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": V,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama(**more: Any) -> tuple[Any, Any, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    x = ids()
    return LlamaForCausalLM(LlamaConfig(**_DECODER | more)), {"input_ids": x, "labels": x}, _own_loss


def qwen2(**more: Any) -> tuple[Any, Any, Any]:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    x, mask = ids(), torch.ones(B, T, dtype=torch.long)
    mask[0, :3] = 0  # padded on the left
    labels = x.masked_fill(mask == 0, -100)
    return (
        Qwen2ForCausalLM(Qwen2Config(**_DECODER | more)),
        {"input_ids": x, "attention_mask": mask, "labels": labels},
        _own_loss,
    )


def vit(**more: Any) -> tuple[Any, Any, Any]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4,
        num_labels=5, **more,
    )  # fmt: skip
    batch = {"pixel_values": torch.randn(B, 3, 8, 8), "labels": torch.randint(0, 5, (B,))}
    return ViTForImageClassification(config), batch, _own_loss


def t5(**more: Any) -> tuple[Any, Any, Any]:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=V, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=2,
        decoder_start_token_id=0, **more,
    )  # fmt: skip
    return T5ForConditionalGeneration(config), {"input_ids": ids(), "labels": ids(B, 5)}, _own_loss


def whisper(**more: Any) -> tuple[Any, Any, Any]:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=V, num_mel_bins=8, encoder_layers=1, encoder_attention_heads=2, decoder_layers=1,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, d_model=16, max_source_positions=8,
        max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        begin_suppress_tokens=None, suppress_tokens=None, **more,
    )  # fmt: skip
    batch = {"input_features": torch.randn(B, 8, 16), "labels": ids(B, 6)}
    return WhisperForConditionalGeneration(config), batch, _own_loss


def clip(**more: Any) -> tuple[Any, Any, Any]:
    from transformers import CLIPConfig, CLIPModel

    text = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": V,
    }
    text |= {"max_position_embeddings": 16, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    seen = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    seen |= {"image_size": 8, "patch_size": 4}
    config = CLIPConfig(text_config=text, vision_config=seen, projection_dim=8, **more)
    batch = {"input_ids": ids(), "pixel_values": torch.randn(B, 3, 8, 8)}
    return CLIPModel(config), batch, lambda model, batch: model(**batch, return_loss=True).loss


_ENCODER = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}


def bert(**more: Any) -> tuple[Any, Any, Any]:
    from transformers import BertConfig, BertForMaskedLM

    x, mask = ids(), torch.ones(B, T, dtype=torch.long)
    mask[1, 5:] = 0
    labels = torch.where((torch.rand(B, T) < 0.4) & (mask == 1), x, -100)
    labels[0, 0] = x[0, 0]
    batch = {"input_ids": x.masked_fill(labels != -100, 1), "attention_mask": mask, "labels": labels}
    return BertForMaskedLM(BertConfig(**_ENCODER | more)), batch, _own_loss


def roberta() -> tuple[Any, Any, Any]:
    from transformers import RobertaConfig, RobertaForTokenClassification

    model = RobertaForTokenClassification(RobertaConfig(**_ENCODER | {"max_position_embeddings": 20}, num_labels=4))
    labels = torch.randint(0, 4, (B, T))
    labels[:, 0] = -100
    return model, {"input_ids": ids(), "labels": labels}, _own_loss


def distilbert() -> tuple[Any, Any, Any]:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=V, dim=16, hidden_dim=32, n_layers=1, n_heads=2, max_position_embeddings=16)
    mask = torch.ones(B, T, dtype=torch.long)
    mask[2, 4:] = 0
    batch = {"input_ids": ids(), "attention_mask": mask, "labels": torch.randint(0, 2, (B,))}
    return DistilBertForSequenceClassification(config), batch, _own_loss


def bart() -> tuple[Any, Any, Any]:
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=V, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
    )  # fmt: skip
    return BartForConditionalGeneration(config), {"input_ids": ids(), "labels": ids(B, 6)}, _own_loss


def mixtral() -> tuple[Any, Any, Any]:
    from transformers import MixtralConfig, MixtralForCausalLM

    x = ids(8, 8)
    config = MixtralConfig(**_DECODER, num_local_experts=3, num_experts_per_tok=2, output_router_logits=True)
    return MixtralForCausalLM(config), {"input_ids": x, "labels": x}, _own_loss


def gemma() -> tuple[Any, Any, Any]:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    x = ids()
    config = Gemma2Config(**_DECODER, head_dim=8, sliding_window=4, attn_implementation="eager")
    return Gemma2ForCausalLM(config), {"input_ids": x, "labels": x}, _own_loss


ALL = (gpt2, llama, qwen2, vit, t5, whisper, clip, bert, roberta, distilbert, bart, mixtral, gemma)
