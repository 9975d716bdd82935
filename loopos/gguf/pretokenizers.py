"""How a byte-level BPE cuts a text before it merges: names of llama.cpp and the same for the tokenizers package.

The patterns are those of llama.cpp's src/llama-vocab.cpp and of the models' own tokenizer.json; the two agree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3, QWEN2 = _WORDS + r"\p{N}{1,3}" + _REST, _WORDS + r"\p{N}" + _REST
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")


@dataclass(frozen=True)
class Cut:
    """patterns: what each isolates, one after the other; digits: each digit apart, then GPT-2's pattern. whole: a piece
    that is a token as it stands is not merged. nfc: text is composed first."""

    patterns: tuple[str, ...] = ()
    digits: bool = False
    whole: bool = False
    nfc: bool = False

    def pre_tokenizer(self) -> dict[str, Any]:
        """As tokenizer.json has it."""
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": not self.patterns,
        }
        if self.digits:
            return _sequence({"type": "Digits", "individual_digits": True}, byte_level)
        if self.patterns:
            return _sequence(*map(_split, self.patterns), byte_level)
        return byte_level


CUTS = {
    "smollm": Cut(digits=True),
    "gpt-2": Cut(),
    "llama-bpe": Cut((LLAMA3,), whole=True),
    "qwen2": Cut((QWEN2,), nfc=True),
    "default": Cut(_DEFAULT),
}
ALIASES = {
    **dict.fromkeys(("starcoder", "refact", "command-r", "codeshell", "exaone"), "smollm"),
    **dict.fromkeys(("gpt2", "phi-2", "mpt", "olmo", "jais"), "gpt-2"),
    **dict.fromkeys(("llama3", "llama-v3", "llama3-bpe", "llama-bpe"), "llama-bpe"),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2"), "qwen2"),
}


def named(name: str) -> Cut | None:
    """By its name in a GGUF file; None when it is not known."""
    return CUTS.get(ALIASES.get(name, name))


def name_of(pre_tokenizer: Any) -> str | None:
    """The name that a GGUF file gives to a pre_tokenizer of a tokenizer.json; None when llama.cpp has none for it."""
    return _NAMES.get(_essence(pre_tokenizer))


def _sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _essence(value: Any) -> str:
    """What changes no ids left out: trim_offsets, add_prefix_space of false, and the ways to write one pattern."""
    parts = value.get("pretokenizers", [value]) if isinstance(value, dict) else [value]
    kept = []
    for part in parts:
        part = {key: said for key, said in dict(part or {}).items() if key != "trim_offsets" and said is not False}
        if part.get("type") == "Split" and part.get("invert") is None and part["pattern"].get("Regex") == GPT2:
            part = {"type": "ByteLevel", "use_regex": True}
        kept.append(part)
    if len(kept) > 1 and kept[-1] == {"type": "ByteLevel"} and kept[-2] == {"type": "ByteLevel", "use_regex": True}:
        del kept[-1]
    return json.dumps(kept, sort_keys=True)


_NAMES = {_essence(cut.pre_tokenizer()): name for name, cut in CUTS.items()}
