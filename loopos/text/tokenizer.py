"""``loopos.Tokenizer``: a tokenizer of Hugging Face with its special tokens and chat templates."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks
from loopos.files import kinds

from . import chat, folder
from .folder import DEFAULT, find
from .stream import DecodeStream

__all__ = ["Tokenizer", "find", "is_foreign"]

_LONG = 10_000  # characters


class Tokenizer:
    """Text to ids and back, with special tokens and chat templates. It needs the package tokenizers (extra [hf])."""

    def __init__(
        self,
        backend: Any,
        *,
        config: Mapping[str, Any] | None = None,
        templates: Mapping[str, str] | None = None,
        path: str | os.PathLike | None = None,
    ):
        """backend: a ``tokenizers.Tokenizer``. config: what tokenizer_config.json says ("eos_token" and so on).
        templates: chat templates by name, "default" the one that is meant. path: of the tokenizer.json it came from."""
        if not is_foreign(backend):
            raise TypeError(f"Tokenizer: backend must be a tokenizers.Tokenizer, got {checks.shown(backend)}")
        self.backend = backend
        self.config, self.templates = dict(config or {}), dict(templates or {})
        self.path = None if path is None else Path(path)

    # Where one comes from

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> Tokenizer:
        """Of a folder with a tokenizer.json, a run, or one of its checkpoints, with the special tokens and chat
        templates that stand beside it. FileNotFoundError when there is none, CheckpointError when a file beside it is
        malformed, ValueError when tokenizers cannot read it, ImportError naming the extra."""
        return cls.from_file(_found(folder))

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> Tokenizer:
        """Of a tokenizer.json and the files beside it; else as :meth:`from_pretrained`."""
        found = _found(path)
        return cls.from_files(folder.read(found.parent) | {folder.FILE: found.read_bytes()}, found.absolute())

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], path: str | os.PathLike) -> Tokenizer:
        """Of the content of a folder's files by name; path: of the tokenizer.json, for messages."""
        where = Path(path)
        config = folder.config_of(files, where.parent)
        templates = folder.templates_of(files, config, where.parent)
        return cls(_parsed(files[folder.FILE], where), config=config, templates=templates, path=where)

    @classmethod
    def train(
        cls,
        texts_or_paths: str | os.PathLike | Iterable[str | os.PathLike],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
    ) -> Tokenizer:
        """A byte-level BPE learned from texts, and from files where a ``Path`` or the name of an existing file is
        given. Any text round-trips. special_tokens get the first ids; those with a well-known name become eos, bos and
        pad. A text too small for so many tokens gives fewer, with a UserWarning."""
        from .learning import learn

        backend, config = learn(texts_or_paths, vocab_size, special_tokens)
        return cls(backend, config=config)

    # Ids and text

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id, added tokens included: what a model needs at least."""
        return 1 + max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The ids of ``text`` as it stands. Special tokens that are written in it are one id each. add_special_tokens:
        put before and behind it what the tokenizer's own rule says (a bos token, say)."""
        if not isinstance(text, str):
            raise TypeError(f"Tokenizer.encode: text must be str, got {checks.shown(text)}")
        try:
            if len(text) > _LONG:  # other threads go on meanwhile: ``encode`` keeps them waiting
                return self.backend.encode_batch([text], add_special_tokens=add_special_tokens)[0].ids
            return self.backend.encode(text, add_special_tokens=add_special_tokens).ids
        except Exception:
            _refuse_surrogate(text)
            raise

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """The text of ``ids`` (N,). An id that is no integer: TypeError; one outside 0..vocab_size-1: IndexError."""
        listed = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        for at, id in enumerate(listed):
            if isinstance(id, bool) or not isinstance(id, int | np.integer):
                raise TypeError(f"Tokenizer.decode: ids must be integers, got {checks.shown(id)} at position {at}")
            if not 0 <= id < self.vocab_size:
                raise IndexError(f"Tokenizer.decode: id {id} at position {at} is outside 0..{self.vocab_size - 1}")
        return str(self.backend.decode([int(id) for id in listed], skip_special_tokens=skip_special_tokens))

    def stream(self, *, skip_special_tokens: bool = False) -> DecodeStream:
        """Decodes id by id: ``put(id)`` and ``flush()`` give text without broken characters."""
        return DecodeStream(lambda ids: self.decode(ids, skip_special_tokens=skip_special_tokens))

    def token_to_id(self, token: str) -> int | None:
        """None when there is no such token."""
        return self.backend.token_to_id(token)

    def id_to_token(self, id: int) -> str | None:
        """The token as the vocabulary has it, which is not its text; None when there is none."""
        return self.backend.id_to_token(int(id)) if 0 <= id < self.vocab_size else None

    # Special tokens

    def special(self, name: str) -> int | None:
        """The id of a special token by its name in tokenizer_config.json ("eos_token"); None when it has none."""
        text = folder.token_text(self.config.get(name))
        return None if text is None else self.token_to_id(text)

    @property
    def eos(self) -> int | None:
        """The id that ends a text."""
        return self.special("eos_token")

    @property
    def bos(self) -> int | None:
        """The id that begins a text."""
        return self.special("bos_token")

    @property
    def pad(self) -> int | None:
        """The id that fills rows up."""
        return self.special("pad_token")

    # Chat

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that is meant when none is named; None when there is none."""
        return self.templates.get(DEFAULT)

    @chat_template.setter
    def chat_template(self, template: str | None) -> None:
        self.templates.pop(DEFAULT, None)
        if template is not None:
            self.templates[DEFAULT] = template

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = False,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        **variables: Any,
    ) -> str:
        """The text of a chat, as transformers renders it. messages: dicts with role and content. template: the name of
        one of ``templates``. variables: what else the template asks for (enable_thinking=False, say).

        ValueError when there is no template, when it refuses the messages, or does what a template may not."""
        return self.render_chat(messages, add_generation_prompt, tools=tools, template=template, **variables).text

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = False,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        **variables: Any,
    ) -> chat.Rendered:
        """As :meth:`apply_chat_template`, with the parts that the template marks as the assistant's."""
        if template is None:
            template = "tool_use" if tools and "tool_use" in self.templates else DEFAULT
        if template not in self.templates:
            if not self.templates:
                raise ValueError(
                    "apply_chat_template: this tokenizer has no chat template; set tokenizer.chat_template, or write "
                    "the text yourself"
                )
            known = ", ".join(map(repr, self.templates))
            raise ValueError(f"apply_chat_template: this tokenizer has no chat template {template!r}; it has {known}")
        special = {name: folder.token_text(self.config.get(name)) for name in folder.SPECIALS}
        special = {name: text for name, text in special.items() if text is not None}
        return chat.render(
            self.templates[template],
            messages,
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            variables=special | variables,
        )

    # Files and identity

    def files(self) -> dict[str, bytes]:
        """The files of a folder that transformers' AutoTokenizer opens, by name."""
        return folder.written(self.backend.to_str(pretty=True), self.config, self.templates)

    def save(self, folder_: str | os.PathLike) -> None:
        """Write :meth:`files` into a folder, each whole or not at all. OSError when that fails."""
        folder.write(Path(folder_), self.files())

    @cached_property
    def sha256(self) -> str:
        """Of what it would write: two of equal sizes may be different."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokenizer:
        backend = type(self.backend).from_str(self.backend.to_str())
        return Tokenizer(backend, config=copy.deepcopy(self.config, memo), templates=self.templates, path=self.path)

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} tokens{'' if self.path is None else f', {self.path}'})"


def is_foreign(spec: Any) -> bool:
    """Whether it has the methods of ``tokenizers.Tokenizer``."""
    methods = ("encode", "decode", "get_vocab", "to_str")
    return not isinstance(spec, type | Tokenizer) and all(callable(getattr(spec, name, None)) for name in methods)


def _found(path: str | os.PathLike) -> Path:
    found = find(path)
    if found is None:
        raise FileNotFoundError(2, f"tokenizer: no {folder.FILE} there", os.fspath(path))
    return found


def _parsed(content: bytes, path: Path) -> Any:
    try:
        from tokenizers import Tokenizer as Backend
    except ImportError:
        raise ImportError(
            f"{path}: reading it needs the package tokenizers; pip install 'loopos[hf]', or pass the ids (.npy)"
        ) from None
    try:
        return Backend.from_buffer(content)
    except Exception as error:  # the package raises plain Exception
        kind = kinds.kind_of(content[: kinds.HEAD])
        if kind is not None:
            raise ValueError(f"{path}: no {folder.FILE}: this is {kind}") from None
        raise ValueError(f"{path}: expected a {folder.FILE} that tokenizers can read: {error}") from None


def _refuse_surrogate(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Tokenizer.encode: text has a lone surrogate U+{ord(text[error.start]):04X} at position {error.start}, "
            "which is half a character; was the text decoded with errors='surrogateescape'?"
        ) from None
