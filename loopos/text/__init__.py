"""Tokenizers of Hugging Face's ``tokenizers`` package (extra [hf]) with what surrounds them: special tokens, chat
templates, the files of a folder, decoding token by token."""

from .before import before_text, prompt_ids
from .stream import DecodeStream
from .tokenizer import Tokenizer, find, is_foreign

__all__ = ["DecodeStream", "Tokenizer", "before_text", "find", "is_foreign", "prompt_ids"]
