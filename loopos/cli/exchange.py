"""``loopos import`` and ``loopos export``: models from and for other programs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from loopos.gguf.writing import KINDS
from loopos.run.messages import to_stderr

from . import folders, options
from .reply import Reply

SUFFIX = ".gguf"
IMPORT = """Turn a GGUF file, as llama.cpp and LM Studio have them, into a Hugging Face folder: float32 weights,
settings, tokenizer and chat template. It takes the extra [gguf].

  loopos import SmolLM2-135M-Instruct.Q4_1.gguf smollm2
  loopos generate smollm2 --prompt 'The capital of France is'"""
EXPORT = """Write the model of a run, a checkpoint or a Hugging Face folder for other programs, with its tokenizer, chat
template and special tokens: OUT.gguf for llama.cpp, LM Studio and Ollama (extra [gguf]), any other OUT is a Hugging
Face folder.

  loopos export runs/planet planet.gguf --type q8_0
  loopos export runs/planet planet"""


def add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the GGUF file")
    parser.add_argument("folder", metavar="FOLDER", help="the Hugging Face folder to write")


def import_(given: dict[str, Any]) -> Reply:
    from loopos import gguf

    model = gguf.read(given["file"])
    model.save_pretrained(given["folder"])
    return _told(model, given["folder"], "Hugging Face folder")


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a run, a checkpoint or a Hugging Face folder")
    parser.add_argument("out", metavar="OUT", help=f"a file that ends in {SUFFIX}, or the folder to write")
    options.add_base(parser)
    parser.add_argument("--type", choices=tuple(KINDS), help=f"of the matrices in a {SUFFIX} file (default: f16)")


def export(given: dict[str, Any]) -> Reply:
    out = given["out"]
    as_gguf = Path(out).suffix.lower() == SUFFIX
    if "type" in given and not as_gguf:
        raise ValueError(f"type is that of a {SUFFIX} file, and {out!r} does not end in {SUFFIX}")
    if as_gguf and Path(out).is_dir():
        raise ValueError(f"{out} is a folder; name a file that ends in {SUFFIX}")
    if os.path.abspath(out) == os.path.abspath(given["folder"]):
        raise ValueError(f"{out} is the folder that is exported; name another")
    model = folders.load(given["folder"], base=given.get("base")).model
    if model.adapter is not None:
        to_stderr(f"loopos export: the adapter of {given['folder']} is merged: {model.merge_adapter()}")
    if not as_gguf:
        model.save_pretrained(out)
        return _told(model, out, "Hugging Face folder")
    from loopos import gguf

    kind = given.get("type", "f16")
    gguf.write(model, out, kind)
    return _told(model, out, f"GGUF file ({kind})")


def _told(model: Any, path: str, kind: str) -> Reply:
    tokens = getattr(model.tokenizer, "vocab_size", None)
    template = bool(getattr(model.tokenizer, "chat_template", None))
    data = {"path": path, "kind": kind, "parameters": model.config.num_parameters(), "dtype": model.dtype}
    data |= {"tokens": tokens, "chat_template": template}
    said = "no tokenizer" if tokens is None else f"{tokens} tokens, {'a' if template else 'no'} chat template"
    return Reply(data, f"{kind}: {path}, {data['parameters']} parameters, {said}")
