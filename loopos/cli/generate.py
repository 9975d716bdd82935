"""``loopos generate``: prompts continued, one as it comes, several at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks
from loopos.generation import Stops, Watch
from loopos.generation.special import ends
from loopos.text import before_text, prompt_ids

from . import folders, options
from .common import use_threads
from .reply import Reply

GENERATE = """Print a continuation of a prompt by the model in FOLDER, as it comes; of several prompts at once, each
when all are done.

  loopos generate runs/novel --prompt 'Once upon' --max-new-tokens 400
  loopos generate smollm2 --prompt 'One, two,' --prompt 'A, B,' --temperature 0 --stop '.'
  loopos generate smollm2 --prompts-file prompts.txt --json"""
BETWEEN = "\n" + "-" * 40 + "\n"  # the texts of several prompts


def add_generate(parser: argparse.ArgumentParser) -> None:
    options.add_folder(parser)
    text = "text to continue (default: a line break); may be given again"
    parser.add_argument("--prompt", action="append", metavar="TEXT", help=text)
    parser.add_argument("--prompts-file", metavar="FILE", help="a prompt on each line that is not empty")
    parser.add_argument("--prompt-ids", metavar="I,I", help="token ids to continue; ids are printed")
    context = "tokens to add; the context slides when it is full, but for several prompts"
    options.add_flag(parser, "max_new_tokens", context, "int", options.NEW_TOKENS)
    options.add_sampling(parser)
    options.add_ends(parser)
    options.add_flag(parser, "threads", options.TRAIN["threads"], "int")


def generate(given: dict[str, Any]) -> Reply:
    """Of one prompt the text is told while it comes."""
    loaded = folders.language_model("generate", given)
    use_threads(given)
    model, as_ids = loaded.model, "prompt_ids" in given
    if as_ids and ("prompt" in given or "prompts_file" in given):
        raise ValueError("prompt and prompt_ids cannot both be given")
    tokenizer = None if as_ids and "stop" not in given else model.tokenizer
    if not as_ids and tokenizer is None:
        raise ValueError(f"{given['folder']} holds no tokenizer, so --prompt cannot be read; pass --prompt-ids")
    prompts = [np.array(_numbers("prompt_ids", given))] if as_ids else [_encoded(tokenizer, p) for p in _texts(given)]
    before = 0 if as_ids else len(before_text(tokenizer))  # they are read, and are no part of the text
    choosing = options.sampling(given) | {"seed": given.get("seed", 0)}
    new = checks.integer("generate", "max_new_tokens", given.get("max_new_tokens", options.NEW_TOKENS), low=0)
    if "eos" in given:
        eos = None if given["eos"] == "none" else _numbers("eos", given)
    else:
        eos = ends(model, tokenizer) or None
    stop = given.get("stop")
    if len(prompts) > 1:
        results = model.generate(prompts, new, stop=stop, eos=eos, **choosing)
        made = [result[len(prompt) :].tolist() for prompt, result in zip(prompts, results, strict=True)]
        stops = Stops.checked("generate", stop, eos, vocab_size=model.config.vocab_size, tokenizer=tokenizer)
        replies = [
            _told(Told(stops, tokenizer, prompt[before:], new), prompt, new)
            for prompt, new in zip(prompts, made, strict=True)
        ]
        return Reply({"results": replies}, BETWEEN.join(reply["text"] for reply in replies))
    stops = Stops.checked("generate", stop, eos, vocab_size=model.config.vocab_size, tokenizer=tokenizer)
    made = []
    following = folders.following(model, prompts[0], new, **choosing)  # what it refuses, before the first character
    told = Told(stops, tokenizer, prompts[0][before:], stream=None if as_ids else sys.stdout)
    for id in following:
        made.append(id)
        if told.put(id):
            break
    told.end()
    if as_ids:
        reply = _told(None, prompts[0], made)
        return Reply(reply, ",".join(map(str, reply["ids"])))
    return Reply(_told(told, prompts[0], made), None)


class Told:
    """The text of a prompt and of what follows it, written to a stream as it comes."""

    def __init__(self, stops: Stops, tokenizer: Any, prompt: np.ndarray, made: Iterable[int] = (), stream: Any = None):
        """made: what is there of it already, all there will be."""
        self._watch, self._stream = Watch(stops, tokenizer), stream
        self.completion = ""
        self.prompt = self._write(self._watch.prime(prompt))
        for id in made:
            self.put(id)
        if made:
            self.end()

    def put(self, id: int) -> bool:
        """Whether the text ends here."""
        self.completion += self._write(self._watch.put(id))
        return self._watch.ended

    def end(self) -> None:
        self.completion += self._write(self._watch.flush())
        self._write("\n")

    def _write(self, text: str) -> str:
        if self._stream is not None and text:
            self._stream.write(text)
            self._stream.flush()
        return text


def _texts(given: dict[str, Any]) -> list[str]:
    texts = list(given.get("prompt", ()))
    if "prompts_file" in given:
        lines = Path(given["prompts_file"]).read_text(encoding="utf-8").splitlines()
        texts += [line for line in lines if line]
        if not texts:
            raise ValueError(f"prompts_file {given['prompts_file']} holds no prompt: one on each line is expected")
    return texts or ["\n"]


def _encoded(tokenizer: Any, text: str) -> np.ndarray:
    ids = np.asarray(prompt_ids(tokenizer, text), np.int64)
    if len(ids) == 0:
        raise ValueError("prompt must have at least one character")
    return ids


def _numbers(name: str, given: dict[str, Any]) -> list[int]:
    try:
        return [int(part) for part in given[name].split(",")]
    except ValueError:
        raise ValueError(f"{name} must be integers with commas between, got {given[name]!r}") from None


def _told(told: Told | None, prompt: np.ndarray, made: list[int]) -> dict[str, Any]:
    reply = {"prompt_tokens": len(prompt), "new_tokens": len(made), "ids": [*prompt.tolist(), *made]}
    return reply if told is None else reply | {"completion": told.completion, "text": told.prompt + told.completion}
