"""GPT-2: layer norm, learned positions, biases everywhere, one tied matrix; matrices are stored transposed."""

from __future__ import annotations

import re
from typing import Any

from loopos.choices import named_there
from loopos.config import ModelConfig
from loopos.hf.known import HARMLESS, NEUTRAL
from loopos.hf.reader import Settings
from loopos.hf.slots import Names

from .family import Family

_HARMLESS = HARMLESS | frozenset(
    """
    attn_pdrop embd_pdrop n_special predict_special_tokens reorder_and_upcast_attn
    summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
    """.split()  # noqa: SIM905 (a list would take a line each)
)
_NEUTRAL = NEUTRAL | {
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "tie_word_embeddings": (True,),
}
_NAMES = Names(
    "transformer.h.{}.",
    {
        "tok_embed": ("transformer.wte",),
        "pos_embed": ("transformer.wpe",),
        "attn_norm": ("ln_1",),
        "attn.qkv_proj": ("attn.c_attn",),
        "attn.o_proj": ("attn.c_proj",),
        "mlp_norm": ("ln_2",),
        "mlp.up_proj": ("mlp.c_fc",),
        "mlp.down_proj": ("mlp.c_proj",),
        "final_norm": ("transformer.ln_f",),
    },
    transposed=True,
)


def _read(settings: Settings) -> dict[str, Any]:
    fields = dict(
        vocab_size=settings.size("vocab_size"),
        context_length=settings.size("n_positions"),
        n_layer=settings.size("n_layer"),
        n_head=settings.size("n_head"),
        d_model=settings.size("n_embd"),
        d_ff=settings.size("n_inner", optional=True),
        dropout=settings.probability("resid_pdrop", 0.1),
        norm_eps=settings.positive("layer_norm_epsilon", 1e-5),
    )
    n_ctx = settings.size("n_ctx", optional=True)  # older files say the context length twice
    if n_ctx not in (None, fields["context_length"]):
        raise settings.unsupported("n_ctx", n_ctx, f"it must equal n_positions = {fields['context_length']}")
    return fields


def _write(c: ModelConfig) -> dict[str, Any]:
    return {
        "n_positions": c.context_length,
        "n_embd": c.d_model,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": c.d_ff,
        "layer_norm_epsilon": c.norm_eps,
        "resid_pdrop": c.dropout,
        "embd_pdrop": c.dropout,
        "attn_pdrop": c.dropout,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    }


GPT2 = Family(
    model_type="gpt2",
    title="GPT-2",
    architecture="GPT2LMHeadModel",
    activations=named_there("gelu_new", "gelu_pytorch_tanh", "gelu", "relu", gated=False),
    activation_key="activation_function",
    read=_read,
    write=_write,
    names=_NAMES,
    prefix="transformer.",
    buffers=re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)"),  # the causal mask
    harmless=_HARMLESS,
    neutral=_NEUTRAL,
)
