"""A tokenizer as the metadata of a GGUF file."""

from __future__ import annotations

import json
from typing import Any

from loopos.model import Model
from loopos.text import Tokenizer

from . import pretokenizers
from .vocabulary import BYTE, CONTROL, NORMAL, SPACE, SPECIAL, TEMPLATE, UNKNOWN, UNUSED, USER_DEFINED


def metadata_of(model: Model) -> dict[str, Any]:
    """By key: lists, texts, numbers and truth values. A model without a tokenizer of Hugging Face's package has none,
    and llama.cpp is told so.

    ValueError for a tokenizer that llama.cpp cannot compute, naming what it has no name for."""
    tokenizer = model.tokenizer
    if not isinstance(tokenizer, Tokenizer):
        return {"tokenizer.ggml.model": "none"}
    said = json.loads(tokenizer.backend.to_str())
    if said["model"]["type"] != "BPE":
        raise ValueError(f"gguf.write: a tokenizer of the kind {said['model']['type']} has no GGUF form; BPE has")
    tokens, types = _tokens(tokenizer, said, model.config.vocab_size)
    kind = _sentencepiece(said, tokens) if said["model"].get("byte_fallback") else _byte_level(said)
    special = {name: tokenizer.special(f"{name}_token") for name in SPECIAL}
    found = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types, **kind}
    found |= {f"tokenizer.ggml.{SPECIAL[name]}_token_id": id for name, id in special.items() if id is not None}
    stops = [id for id in model.stop_ids if id != special["eos"]]
    if special["eos"] is None and stops:
        found["tokenizer.ggml.eos_token_id"] = stops.pop(0)
    found |= {f"tokenizer.ggml.{name}_token_id": id for name, id in zip(("eot", "eom"), stops, strict=False)}
    around = tokenizer.encode("", add_special_tokens=True)
    found["tokenizer.ggml.add_bos_token"] = bool(around) and around[0] == special["bos"] is not None
    found["tokenizer.ggml.add_eos_token"] = bool(around) and around[-1] == special["eos"] != special["bos"]
    for name, template in tokenizer.templates.items():
        found[TEMPLATE if name == "default" else f"{TEMPLATE}.{name}"] = template
    return found


def _tokens(tokenizer: Tokenizer, said: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Text and type of every row of the embedding. A row without a token has a name that no text is cut into."""
    tokens, types = [f"[PAD{id}]" for id in range(rows)], [UNUSED] * rows
    byte_fallback = said["model"].get("byte_fallback")
    unknown = said["model"].get("unk_token")
    for text, id in said["model"]["vocab"].items():
        is_byte = byte_fallback and len(text) == 6 and text.startswith("<0x") and text.endswith(">")
        tokens[id], types[id] = text, BYTE if is_byte else UNKNOWN if text == unknown else NORMAL
    for added in said["added_tokens"]:
        tokens[added["id"]] = added["content"]
        if types[added["id"]] != UNKNOWN:
            types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    return tokens, types


def _byte_level(said: dict[str, Any]) -> dict[str, Any]:
    name = pretokenizers.name_of(said["pre_tokenizer"])
    if name is None:
        what = json.dumps(said["pre_tokenizer"], ensure_ascii=False)
        raise ValueError(f"gguf.write: llama.cpp has no name for the pre-tokenizer {what[:300]}")
    cut = pretokenizers.CUTS[name]
    normalizer = (said["normalizer"] or {}).get("type")
    if normalizer not in (None, *(["NFC"] if cut.nfc else [])):
        raise ValueError(f"gguf.write: llama.cpp has no normalizer {normalizer} for byte-level BPE")
    if bool(said["model"].get("ignore_merges")) != cut.whole:
        raise ValueError(f"gguf.write: with this pre-tokenizer ({name}) llama.cpp has ignore_merges {cut.whole}")
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in _pairs(said)],
    }


def _sentencepiece(said: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    """Scores from the order of the merges: SentencePiece joins the pair whose whole has the best."""
    normalizer = said["normalizer"] or {}
    parts = normalizer.get("normalizers", [normalizer])
    kinds = [part.get("type") for part in parts]
    pre = (said["pre_tokenizer"] or {}).get("type")
    prefix = "Prepend" in kinds or (
        pre == "Metaspace" and said["pre_tokenizer"].get("prepend_scheme", "always") in ("first", "always")
    )
    if not set(kinds) <= {None, "Prepend", "Replace"} or pre not in (None, "Metaspace", "Split"):
        raise ValueError(f"gguf.write: llama.cpp has no form for the normalizers {kinds} and the pre-tokenizer {pre}")
    best = {}
    for rank, (left, right) in enumerate(_pairs(said)):
        best.setdefault(left + right, float(-rank))
    lowest = float(-len(best) - 1)
    scores = [best.get(token, lowest if len(token) == 1 or SPACE in token else 0.0) for token in tokens]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.add_space_prefix": prefix,
    }


def _pairs(said: dict[str, Any]) -> list[list[str]]:
    return [each.split(" ", 1) if isinstance(each, str) else each for each in said["model"]["merges"]]
