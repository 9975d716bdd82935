"""``loopos chat``: a conversation in the terminal, and the same line by line for a program."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from loopos import checks
from loopos.generation.engine import Engine
from loopos.generation.sampling import Sampling
from loopos.generation.session import Piece
from loopos.run.interrupts import Interrupts
from loopos.run.messages import to_stderr

from . import engines, options
from .common import use_threads
from .reply import Reply

HELP = """\
  /reset          forget what was said (the system message stays)
  /system TEXT    begin anew with another system message; without TEXT, with none
  /help           these lines
  /exit, Ctrl-D   leave"""
CHAT = f"""Talk with the model in FOLDER: a run, a checkpoint or a Hugging Face folder, whose tokenizer has a chat
template. Answers come word by word; Ctrl-C stops one and keeps what was said of it.

  loopos chat smollm2
  loopos chat runs/planet --system 'Answer in one sentence.' --temperature 0
  echo 'Who are you?' | loopos chat smollm2

{HELP}"""
NEW_TOKENS = 512
PROMPT = "> "


class Conversation:
    """What was said, within the context of the model: when it is full, the oldest question and answer are left out."""

    def __init__(self, engine: Engine, system: str | None = None):
        self.engine, self.system = engine, system
        self.turns: list[dict[str, str]] = []

    def reset(self) -> None:
        self.turns = []

    def ids(self, room: int) -> tuple[list[int], int]:
        """Of all that was said, and how many turns had to go so that ``room`` tokens are left for an answer.
        ValueError when the newest question alone is too long."""
        gone = 0
        while True:
            opening = [] if self.system is None else [{"role": "system", "content": self.system}]
            ids = self.engine.chat_ids(opening + self.turns)
            if len(ids) + room <= self.engine.context_length:
                return ids, gone
            if len(self.turns) < 3:
                what = "this has" if self.system is None else "this has, with the system message,"
                other = "" if self.system is None else ", or give another /system"
                raise ValueError(
                    f"{what} {len(ids)} tokens and the context of the model {self.engine.context_length}: there is "
                    f"no room for an answer; say it in fewer words{other}"
                )
            del self.turns[:2]
            gone += 1

    def ask(self, question: str, *, max_new_tokens: int, stopped: Callable[[], bool], **sampling: Any) -> Asked:
        """The pieces of an answer as they come. What was said of it belongs to the conversation, also of one that was
        stopped; a question that cannot be answered does not."""
        self.turns.append({"role": "user", "content": question})
        try:
            ids, gone = self.ids(min(max_new_tokens, self.engine.context_length // 4))
            room = min(max_new_tokens, self.engine.context_length - len(ids))
        except BaseException:
            self.turns.pop()
            raise
        pieces = self.engine.answer(ids, max_new_tokens=room, stopped=stopped, **sampling)
        return Asked(self, pieces, gone)


class Asked:
    """An answer under way. gone: turns that the context had no room for."""

    def __init__(self, conversation: Conversation, pieces: Iterator[Piece], gone: int):
        self._conversation, self._pieces, self.gone = conversation, pieces, gone
        self.text, self.tokens, self.finish_reason = "", 0, "stopped"

    def __iter__(self) -> Iterator[str]:
        try:
            for piece in self._pieces:
                self.text += piece.text
                self.tokens += piece.id is not None
                self.finish_reason = piece.finish_reason or self.finish_reason
                if piece.text:
                    yield piece.text
        finally:
            turns = self._conversation.turns
            if self.text:
                turns.append({"role": "assistant", "content": self.text})
            else:  # no answer, no question
                turns.pop()


def add_chat(parser: argparse.ArgumentParser) -> None:
    options.add_folder(parser)
    options.add_flag(parser, "system", "the system message", "str")
    options.add_flag(parser, "max_new_tokens", "tokens of one answer, at most", "int", NEW_TOKENS)
    options.add_sampling(parser)
    options.add_flag(parser, "threads", options.TRAIN["threads"], "int")


def chat(given: dict[str, Any]) -> Reply:
    use_threads(given)
    emit = given.pop("emit", None)
    new = checks.integer("chat", "max_new_tokens", given.pop("max_new_tokens", NEW_TOKENS), low=1)
    system = given.pop("system", None)
    engine = engines.chatting("chat", given)
    choosing = options.sampling(given)
    seed = checks.integer("chat", "seed", given.get("seed", 0), low=0)
    Sampling.checked("chat", **choosing)  # before the first question
    talk = Conversation(engine, system)
    answers = 0
    with contextlib.suppress(EOFError):
        for line in _lines():
            word, _, rest = line.strip().partition(" ")
            if not word or word in ("/exit", "/quit", "/bye"):
                if word:
                    break
                continue
            if word.startswith("/"):
                _command(talk, word, rest.strip())
                continue
            try:
                answers += _answer(talk, line.strip(), emit, new, choosing | {"seed": seed + answers})
            except ValueError as error:
                to_stderr(f"loopos chat: {error}")
    return Reply({"event": "end", "answers": answers}, None)


def _answer(talk: Conversation, question: str, emit: Any, new: int, choosing: dict[str, Any]) -> int:
    started = time.perf_counter()
    with Interrupts() as interrupts:
        asked = talk.ask(question, max_new_tokens=new, stopped=lambda: interrupts.pending is not None, **choosing)
        if asked.gone:
            to_stderr(f"(the context is full: {asked.gone} of the oldest questions and answers are no longer seen)")
        for text in asked:
            sys.stdout.write(text)
            sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    if asked.finish_reason == "length":
        to_stderr(f"(cut after {asked.tokens} tokens: --max-new-tokens)")
    if emit is not None:
        seconds = time.perf_counter() - started
        said = {"event": "answer", "content": asked.text, "finish_reason": asked.finish_reason}
        emit(said | {"tokens": asked.tokens, "tokens_per_second": asked.tokens / seconds if seconds else None})
    return 1


def _command(talk: Conversation, word: str, rest: str) -> None:
    if word == "/reset":
        talk.reset()
        to_stderr("(all is forgotten)")
    elif word == "/system":
        talk.system = rest or None
        talk.reset()
        to_stderr("(a new beginning)")
    elif word == "/help":
        to_stderr(HELP)
    else:
        to_stderr(f"loopos chat: there is no {word}; /help tells what there is")


def _lines() -> Iterator[str]:
    """What is said: of a terminal with a prompt and, where Python has it, line editing; else every line of stdin."""
    if not (sys.stdin and sys.stdin.isatty()):
        yield from sys.stdin or ()
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    while True:
        try:
            yield input(PROMPT)
        except KeyboardInterrupt:
            to_stderr("\n(Ctrl-D or /exit leaves)")
