"""The files of a tokenizer in a folder: what they say of special tokens and chat templates, read and written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from loopos.checks import shown
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.checkpoint_folder import is_checkpoint

FILE, CONFIG, SPECIAL, JINJA = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
ADDED, PROCESSOR, TEMPLATES = "added_tokens.json", "chat_template.json", "additional_chat_templates"
NAMES = (FILE, CONFIG, SPECIAL, ADDED, JINJA, PROCESSOR)
FORMS = (  # the vocabulary once more, as other programs read it
    *("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    "tekken.json",
)
DEFAULT = "default"  # the chat template that is meant when none is named
KEPT = "pretrained"  # in the folder of a run
SPECIALS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MAX_BYTES = 256 << 20  # of one file; the largest tokenizers take a tenth of that


def find(path: str | os.PathLike) -> Path | None:
    """The tokenizer.json that ``path`` names: a file, a folder that has one, a run or one of its checkpoints. None
    when there is none."""
    path = Path(path)
    if not path.is_dir():
        return path if path.is_file() else None
    folders = [path, path / KEPT, *([path.parent / KEPT] if is_checkpoint(path) else [])]
    return next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)


def read(folder: Path) -> dict[str, bytes]:
    """The tokenizer's files in ``folder`` by their path in it."""
    return {name: durable.read_bytes(folder / name, MAX_BYTES).tobytes() for name in found(folder)}


def found(folder: Path, names: Iterable[str] = NAMES) -> list[str]:
    """Those of ``names`` that are files in ``folder``, and its further chat templates, by their path in it."""
    names = [name for name in names if (folder / name).is_file()]
    return names + sorted(f"{TEMPLATES}/{path.name}" for path in (folder / TEMPLATES).glob("*.jinja"))


def of_another(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """What ``folder`` holds of another tokenizer than the one in ``files``, which takes its place."""
    if FILE not in files or not (folder / FILE).is_file() or durable.read_bytes(folder / FILE).tobytes() == files[FILE]:
        return []
    return [name for name in found(folder, (*NAMES, *FORMS)) if name not in files]


def parsed(files: Mapping[str, bytes], name: str, where: Path) -> dict[str, Any]:
    """The JSON object in one of ``files``; empty when there is no such file. Malformed: CheckpointError."""
    if name not in files:
        return {}
    values = durable.parse_json(files[name], where / name)
    if not isinstance(values, dict):
        raise CheckpointError(where / name, f"expected a JSON object, got {shown(values)}")
    return values


def config_of(files: Mapping[str, bytes], where: Path) -> dict[str, Any]:
    """tokenizer_config.json, with the special tokens that only special_tokens_map.json says."""
    config, special = parsed(files, CONFIG, where), parsed(files, SPECIAL, where)
    return {name: value for name, value in special.items() if config.get(name) is None} | {
        name: value for name, value in config.items() if value is not None or name not in special
    }


def templates_of(files: Mapping[str, bytes], config: Mapping[str, Any], where: Path) -> dict[str, str]:
    """The chat templates by name: those of .jinja files, else of tokenizer_config.json, else of chat_template.json."""
    templates = {}
    for name, content in files.items():
        if name == JINJA or name.startswith(f"{TEMPLATES}/"):
            try:
                templates[DEFAULT if name == JINJA else Path(name).stem] = content.decode("utf-8")
            except UnicodeDecodeError as error:
                raise CheckpointError(where / name, f"a chat template must be UTF-8: {error}") from None
    for name, value in ((CONFIG, config.get("chat_template")), (PROCESSOR, None)):
        if templates:
            break
        value = parsed(files, PROCESSOR, where).get("chat_template") if name == PROCESSOR else value
        templates = _named(value, where / name)
    return templates


def _named(value: Any, where: Path) -> dict[str, str]:
    """A template, or a list or table of several by name."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {DEFAULT: value}
    if isinstance(value, list):
        pairs = [(each.get("name"), each.get("template")) if isinstance(each, dict) else (None, None) for each in value]
    else:
        pairs = list(value.items()) if isinstance(value, dict) else [(None, None)]
    if not all(isinstance(part, str) for pair in pairs for part in pair):
        raise CheckpointError(where, f"chat_template must be a text or a list of name and template, got {shown(value)}")
    return dict(pairs)


def token_text(value: Any) -> str | None:
    """A special token as written in these files: a text, or an object with its content."""
    value = value.get("content") if isinstance(value, Mapping) else value
    return value if isinstance(value, str) else None


def written(serialized: str, config: Mapping[str, Any], templates: Mapping[str, str]) -> dict[str, bytes]:
    """The files of a folder that transformers' AutoTokenizer opens."""
    kept = {name: value for name, value in config.items() if name != "chat_template"}
    kept.setdefault("clean_up_tokenization_spaces", False)
    kept.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    special = {name: config[name] for name in (*SPECIALS, "additional_special_tokens") if config.get(name)}
    files = {FILE: serialized.encode(), CONFIG: _json(kept), SPECIAL: _json(special)}
    for name, template in templates.items():
        files[JINJA if name == DEFAULT else f"{TEMPLATES}/{name}.jinja"] = template.encode()
    return files


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put ``files`` into ``folder``, each whole or not at all; those of another tokenizer there are taken away."""
    for parent in sorted({(folder / name).parent for name in files}):
        durable.make_folder(parent)
    for name in found(folder):
        if name not in files:
            os.unlink(folder / name)
    for name, content in files.items():
        durable.write_bytes(folder / name, content)


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
