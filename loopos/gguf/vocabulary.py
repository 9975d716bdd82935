"""The tokenizer in a GGUF file, as a tokenizer.json: byte-level BPE ("gpt2") and SentencePiece's BPE ("llama")."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from loopos.checks import shown
from loopos.text import Tokenizer

from .pretokenizers import CUTS, named
from .values import Metadata

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # types of tokens
SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "mask": "mask", "sep": "seperator"}
TEMPLATE = "tokenizer.chat_template"
SPACE = "▁"  # SentencePiece's


def tokenizer_of(metadata: Metadata, rows: int) -> Tokenizer | None:
    """The tokenizer of a model whose embedding has so many rows; None when the file has none.

    CheckpointError when it is malformed, ValueError for a kind that is not supported."""
    kind = metadata.text("tokenizer.ggml.model", "none")
    if kind in ("none", "no_vocab"):
        return None
    if kind not in ("gpt2", "llama"):
        raise ValueError(f"{metadata.container.path}: the tokenizer {kind!r} is not supported; these are: gpt2, llama")
    tokens = metadata.texts("tokenizer.ggml.tokens")
    if len(tokens) > rows:
        raise metadata.refuse(f"there are {len(tokens)} tokens, and the embedding has {rows} rows")
    types = _types(metadata, len(tokens))
    special = {
        name: metadata.count(f"tokenizer.ggml.{theirs}_token_id", None, low=0) for name, theirs in SPECIAL.items()
    }
    for name, id in special.items():
        if id is not None and id >= len(tokens):
            raise metadata.refuse(
                f"tokenizer.ggml.{SPECIAL[name]}_token_id is {id}, and there are {len(tokens)} tokens"
            )
    kept = {text: id for id, text in enumerate(tokens) if types[id] != UNUSED}
    if len(kept) < int((types != UNUSED).sum()):
        seen: set[str] = set()
        twice = next(t for id, t in enumerate(tokens) if types[id] != UNUSED and (t in seen or seen.add(t)))
        raise metadata.refuse(f"the token {shown(twice)} occurs twice")
    make = _byte_level if kind == "gpt2" else _sentencepiece
    made = make(metadata, kept, types) | {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(_added(kept, types)),
        "post_processor": _ends(metadata, tokens, special, kind),
    }
    config = {f"{name}_token": tokens[id] for name, id in special.items() if id is not None}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config["model_max_length"] = metadata.count("{arch}.context_length")
    files = {
        "tokenizer.json": json.dumps(made, ensure_ascii=False).encode(),
        "tokenizer_config.json": json.dumps(config, ensure_ascii=False).encode(),
    }
    try:
        result = Tokenizer.from_files(files, metadata.container.path)
    except ValueError as error:
        raise metadata.refuse(f"its tokenizer is not sound: {error}") from None
    result.templates.update(_templates(metadata))
    return result


def stops_of(metadata: Metadata) -> list[int]:
    """The ids that end an answer: of the text, and of a turn where that is another."""
    found = [metadata.count(f"tokenizer.ggml.{name}_token_id", None, low=0) for name in ("eos", "eot", "eom")]
    return list(dict.fromkeys(id for id in found if id is not None))


def _types(metadata: Metadata, count: int) -> np.ndarray:
    types = metadata.numbers("tokenizer.ggml.token_type", None)
    if types is None:
        return np.full(count, NORMAL)
    if len(types) != count:
        raise metadata.refuse(f"there are {count} tokens and {len(types)} types of tokens")
    return types


def _templates(metadata: Metadata) -> dict[str, str]:
    values = metadata.container.metadata
    found = {key.removeprefix(f"{TEMPLATE}."): metadata.text(key) for key in values if key.startswith(f"{TEMPLATE}.")}
    return found if TEMPLATE not in values else found | {"default": metadata.text(TEMPLATE)}


def _added(kept: dict[str, int], types: np.ndarray) -> Iterator[dict[str, Any]]:
    """The tokens that are found in a text before it is cut."""
    for text, id in kept.items():
        if types[id] in (UNKNOWN, CONTROL, USER_DEFINED) and text:
            marks = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            yield {"id": id, "content": text, **marks, "special": bool(types[id] != USER_DEFINED)}


def _ends(metadata: Metadata, tokens: list[str], special: dict[str, int | None], kind: str) -> dict[str, Any] | None:
    """What is put before and behind a text, where it is asked for."""
    by_default = kind == "llama" or metadata.text("tokenizer.ggml.pre", "default") in (
        "llama-bpe",
        "llama3",
        "llama-v3",
    )
    used = {
        "bos": metadata.flag("tokenizer.ggml.add_bos_token", by_default),
        "eos": metadata.flag("tokenizer.ggml.add_eos_token", False),
    }
    used = {name: asked and special[name] is not None for name, asked in used.items()}
    if not any(used.values()):
        return None
    mark = {name: {"SpecialToken": {"id": tokens[special[name]], "type_id": 0}} for name, here in used.items() if here}

    def around(*ids: str) -> list[dict[str, Any]]:
        before, behind = ([mark[name]] if name in mark else [] for name in ("bos", "eos"))
        return [part for id in ids for part in (*before, {"Sequence": {"id": id, "type_id": 0}}, *behind)]

    texts = {tokens[special[name]]: special[name] for name in mark}
    return {
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": around("A", "B"),
        "special_tokens": {text: {"id": text, "ids": [id], "tokens": [text]} for text, id in texts.items()},
    }


def _bpe(vocab: dict[str, int], merges: list[Any], **more: Any) -> dict[str, Any]:
    plain = dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"))
    flags = dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False)
    return {"type": "BPE", **plain, **flags, **more, "vocab": vocab, "merges": merges}


def _byte_level(metadata: Metadata, kept: dict[str, int], types: np.ndarray) -> dict[str, Any]:
    name = metadata.text("tokenizer.ggml.pre", "default")
    cut = named(name)
    if cut is None:
        raise ValueError(
            f"{metadata.container.path}: the pre-tokenizer {name!r} is not supported; these are: {', '.join(CUTS)}"
        )
    merges = metadata.texts("tokenizer.ggml.merges")
    for merge in merges:
        left, _, right = merge.partition(" ")
        if left not in kept or right not in kept or left + right not in kept:
            raise metadata.refuse(f"the merge {shown(merge)} is not of tokens")
    return {
        "normalizer": {"type": "NFC"} if cut.nfc else None,
        "pre_tokenizer": cut.pre_tokenizer(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(kept, merges, ignore_merges=cut.whole),
    }


def _sentencepiece(metadata: Metadata, kept: dict[str, int], types: np.ndarray) -> dict[str, Any]:
    scores = metadata.numbers("tokenizer.ggml.scores")
    if len(scores) != len(types):
        raise metadata.refuse(f"there are {len(types)} tokens and {len(scores)} scores")
    if not np.isfinite(scores).all():
        raise metadata.refuse("a score is not finite")
    prefix = metadata.flag("tokenizer.ggml.add_space_prefix", True)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    normalizers = [{"type": "Prepend", "prepend": SPACE}, spaces] if prefix else [spaces]
    unknown = next((text for text, id in kept.items() if types[id] == UNKNOWN), None)
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
        "model": _bpe(kept, _merges(kept, types, scores), unk_token=unknown, fuse_unk=True, byte_fallback=True),
    }


def _merges(kept: dict[str, int], types: np.ndarray, scores: np.ndarray) -> list[list[str]]:
    """The merges of pieces into pieces, the best first: SentencePiece joins the two whose whole has the best score."""
    found = []
    for piece, id in kept.items():
        if types[id] != NORMAL:
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in kept and right in kept and types[kept[left]] == types[kept[right]] == NORMAL:
                found.append((-float(scores[id]), kept[left], kept[right], left, right))
    found.sort(key=lambda each: each[:3])
    return [[left, right] for *_, left, right in found]
