"""Tokenizers of Hugging Face's ``tokenizers`` package (extra [hf]) with what surrounds them: special tokens, chat
templates, the files of a folder, decoding token by token."""

from .stream import DecodeStream
from .tokenizer import Tokenizer, find, is_foreign

__all__ = ["DecodeStream", "Tokenizer", "find", "is_foreign"]
