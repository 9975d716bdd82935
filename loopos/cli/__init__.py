"""The command line: ``loopos train | launch | caption | classify | compare | covariance | eval | generate | chat |
serve | import | export | gradcheck | doctor | replay | diff | explain | report | bench | info``.

Results go to stdout, progress and errors to stderr; with --json the results are JSON, and so is an error. Exit codes:
0; 1 a check that failed; 2 bad input, in one sentence; 3 a number that is not finite (NonFiniteError); 130 Ctrl-C; 143
SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from loopos.run.messages import to_stderr

from . import (
    bench,
    caption,
    chat,
    classify,
    commands,
    compare,
    covariance,
    doctor,
    evaluate,
    exchange,
    generate,
    health,
    launch,
    options,
    ranked,
    serve,
)
from .near import near
from .reply import Reply, print_json

SUMMARY = "Train transformers on a CPU."
BAD_INPUT, NOT_FINITE, CTRL_C = 2, 3, 130


COMMANDS = {  # name: what it does, its options, its arguments, in a line, in full
    "train": (commands.train, options.add_train, "[TEXT]", "train a model on a text", commands.TRAIN),
    "launch": (
        launch.launch,
        launch.add_launch,
        "[--hosts A,B] [-n I] -- train ...",
        "train on several processes",
        launch.LAUNCH,
    ),
    "caption": (caption.caption, caption.add_caption, "[FOLDER]", "train a model to caption pictures", caption.CAPTION),
    "classify": (
        classify.classify,
        classify.add_classify,
        "[FOLDER]",
        "train a model to classify pictures",
        classify.CLASSIFY,
    ),
    "compare": (compare.compare, compare.add_compare, "[DATA]", "compare optimizers on one task", compare.COMPARE),
    "covariance": (
        covariance.covariance,
        covariance.add_covariance,
        "train|eval|demo [FOLDER]",
        "train a network that predicts the covariance of an array",
        covariance.COVARIANCE,
    ),
    "eval": (evaluate.evaluate, options.add_eval, "FOLDER [TEXT]", "loss of a trained model on a text", evaluate.EVAL),
    "generate": (generate.generate, generate.add_generate, "FOLDER", "continue a prompt", generate.GENERATE),
    "import": (exchange.import_, exchange.add_import, "FILE FOLDER", "open a GGUF file", exchange.IMPORT),
    "export": (
        exchange.export,
        exchange.add_export,
        "FOLDER OUT",
        "write a model for llama.cpp and others",
        exchange.EXPORT,
    ),
    "chat": (chat.chat, chat.add_chat, "FOLDER", "talk with a model", chat.CHAT),
    "serve": (serve.serve, serve.add_serve, "FOLDER", "serve a model to programs", serve.SERVE),
    "gradcheck": (commands.gradcheck, options.add_gradcheck, "", "check the backward pass", commands.GRADCHECK),
    "doctor": (doctor.doctor, doctor.add_doctor, "[TEXT]", "check a training before it begins", doctor.DOCTOR),
    "explain": (
        health.explain,
        health.add_explain,
        "FILE|TEXT|-",
        "why a run went wrong, from its log",
        health.EXPLAIN,
    ),
    "replay": (health.replay, health.add_replay, "BUNDLE", "do the update again that ended a run", health.REPLAY),
    "diff": (health.diff, health.add_diff, "RUN_A RUN_B", "the first step at which two runs differ", health.DIFF),
    "report": (health.report, health.add_report, "RUN", "one HTML page about a run", health.REPORT),
    "bench": (bench.bench, bench.add_bench, "[WHAT] [FILE]", "measure how fast this machine trains", bench.BENCH),
    "info": (
        commands.info,
        options.add_info,
        "[FOLDER]",
        "version, threads and build; or what a folder holds",
        commands.INFO,
    ),
}


STREAMING = ("train", "chat")  # commands that print a line of JSON as it comes: they are given "emit" with --json
JSON_HELP = "print {} on stdout, everything else on stderr; an error too is one, with its exit code"


class _Refused(SystemExit):
    """A command line that cannot be: said on stderr already."""

    def __init__(self, message: str):
        super().__init__(BAD_INPUT)
        self.message = message


def _with_numbers(args: Sequence[str]) -> list[str]:
    """``--snr -5,0`` as ``--snr=-5,0``: argparse takes a list of numbers that begins with a minus for an option."""
    joined: list[str] = []
    for text in args:
        if (
            joined
            and joined[-1].startswith("--")
            and "=" not in joined[-1]
            and re.fullmatch(r"-[\d.][\d.,eE+-]*", text)
        ):
            joined[-1] += "=" + text
        else:
            joined.append(text)
    return joined


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence on stderr, each from the command that it is about."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        known, unknown = super().parse_known_args(_with_numbers(sys.argv[1:] if args is None else args), namespace)
        if unknown:  # said here: the parser of all commands would point to its own help
            flags = {option[2:].replace("-", "_"): option for option in self._option_string_actions if len(option) > 2}
            flags |= {action.dest: action.metavar for action in self._actions if not action.option_strings}
            meant = [near(text, flags) for text in unknown if text.startswith("-")]
            guess = "".join(f"; did you mean {flags[name]}?" for name in dict.fromkeys(meant) if name is not None)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{guess}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        self._print_message(f"{self.prog}: {message}; see {self.prog} --help\n", sys.stderr)
        raise _Refused(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        if not ranked.behind():  # all processes of a launcher have one command line
            super()._print_message(message, file)


def build_parser() -> argparse.ArgumentParser:
    """Options that were not given are absent from the result, so that a file or a default can fill them."""
    parser = _Parser(prog="loopos", description=SUMMARY, epilog="loopos COMMAND --help tells about each command.")
    parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, (_, add, arguments, summary, description) in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            usage=f"loopos {name} {arguments} [options]".replace("  ", " "),
            help=summary,
            description=description,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add(subparser)
        printed = "JSON objects, one a line as they come," if name in STREAMING else "one JSON object"
        if "--json" not in subparser._option_string_actions:
            subparser.add_argument("--json", action="store_true", help=JSON_HELP.format(printed))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. ``argv`` is sys.argv[1:] unless given."""
    from loopos import __version__

    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a character shows another in its place
        sys.stdout.reconfigure(errors="replace")
    parser = build_parser()
    try:
        given: dict[str, Any] = vars(parser.parse_args(argv))
    except _Refused as error:
        if "--json" in (sys.argv[1:] if argv is None else argv) and not ranked.behind():
            print_json(_described("SystemExit", error.message, BAD_INPUT))
        raise
    command = given.pop("command")
    alone = not ranked.behind(given)  # or the first of several processes
    if given.pop("version"):
        if alone:
            print(f"loopos {__version__}")
        return 0
    if command is None:
        if alone:
            to_stderr(parser.format_help().rstrip("\n"))
        return BAD_INPUT
    warnings.showwarning = lambda message, *_, **__: to_stderr(f"loopos {command}: {_bare(command, str(message))}")
    if not alone:
        given.pop("json", None)
        warnings.showwarning = lambda *_, **__: None
    if given.get("json") is not True:  # absent, or the file that bench is to write
        return _run(command, given).code
    del given["json"]
    results = sys.stdout
    if command in STREAMING:
        given["emit"] = lambda line: print_json(line, results)
    with contextlib.redirect_stdout(sys.stderr):  # what else is printed
        try:
            reply = _run(command, given)
        except SystemExit as stopped:  # SIGTERM, said on stderr
            print_json(_described("SystemExit", "stopped by SIGTERM", stopped.code), results)
            raise
    print_json(reply.data, results)
    return reply.code


def _run(command: str, given: dict[str, Any]) -> Reply:
    """The reply of the command, whose text is printed; of one that failed, its error."""
    from loopos import NonFiniteError
    from loopos.errors import RankError

    try:
        if ranked.idle(command):
            return Reply({}, None)
        reply = COMMANDS[command][0](given)
        if reply.text is not None:
            print(reply.text)
        return reply
    except NonFiniteError as error:
        return _failed(command, error, NOT_FINITE)
    except BrokenPipeError:  # the reader of our output has gone: nothing more to say to it
        if sys.stderr is not None:
            sys.stderr.close()
        return Reply({}, None, 1)
    except (ValueError, TypeError, IndexError, OSError, MemoryError, ImportError) as error:
        return _failed(command, error, BAD_INPUT)
    except KeyboardInterrupt as error:
        return _failed(command, error, CTRL_C)
    except RankError as error:
        return _failed(command, error, 1)


def _failed(command: str, error: BaseException, code: int) -> Reply:
    text = str(error) or ("stopped by Ctrl-C" if code == CTRL_C else type(error).__name__)
    if isinstance(error, OSError) and error.strerror:  # without the [Errno N] of str()
        text = error.strerror + (f": {error.filename}" if error.filename is not None else "")
    sentence = _bare(command, " ".join(text.split()))
    if ranked.tells(error):
        to_stderr(f"loopos {command}: {sentence}")
    return Reply(_described(type(error).__name__, sentence, code, getattr(error, "birth", None)), None, code)


def _bare(command: str, sentence: str) -> str:
    """Without the name of the command, or of the function that it calls, which the line begins with."""
    return sentence.removeprefix(f"{command}: ").removeprefix("train: ")


def _described(kind: str, message: str, code: Any, birth: Any = None) -> dict[str, Any]:
    """An error as JSON: {"error": {"type", "message", "exit_code"}}, and the "birth" of a NonFiniteError."""
    error = {"type": kind, "message": message, "exit_code": code}
    return {"error": error if birth is None else error | {"birth": birth}}
