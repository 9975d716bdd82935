"""The command line: ``loopos train | eval | generate | gradcheck | doctor | replay | diff | explain | report | bench |
info``.

Results go to stdout, progress and errors to stderr. Exit codes: 0; 1 a check that failed; 2 bad input, in one sentence;
3 a number that is not finite (NonFiniteError); 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from loopos.run.messages import to_stderr

from . import bench, commands, doctor, health, options
from .near import near

SUMMARY = "Train transformers on a CPU."
BAD_INPUT, NOT_FINITE, CTRL_C = 2, 3, 130


COMMANDS = {  # name: what it does, its options, its arguments, in a line, in full
    "train": (commands.train, options.add_train, "[TEXT]", "train a model on a text", commands.TRAIN),
    "eval": (commands.evaluate, options.add_eval, "FOLDER [TEXT]", "loss of a trained model on a text", commands.EVAL),
    "generate": (commands.generate, options.add_generate, "FOLDER", "continue a prompt", commands.GENERATE),
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


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence on stderr, each from the command that it is about."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:  # said here: the parser of all commands would point to its own help
            flags = {option[2:].replace("-", "_"): option for option in self._option_string_actions if len(option) > 2}
            flags |= {action.dest: action.metavar for action in self._actions if not action.option_strings}
            meant = [near(text, flags) for text in unknown if text.startswith("-")]
            guess = "".join(f"; did you mean {flags[name]}?" for name in dict.fromkeys(meant) if name is not None)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{guess}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


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
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. ``argv`` is sys.argv[1:] unless given."""
    from loopos import NonFiniteError, __version__

    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a character shows another in its place
        sys.stdout.reconfigure(errors="replace")
    parser = build_parser()
    given: dict[str, Any] = vars(parser.parse_args(argv))
    command = given.pop("command")
    if given.pop("version"):
        print(f"loopos {__version__}")
        return 0
    if command is None:
        to_stderr(parser.format_help().rstrip("\n"))
        return BAD_INPUT
    warnings.showwarning = lambda message, *_, **__: to_stderr(f"loopos {command}: {message}")
    try:
        return COMMANDS[command][0](given)
    except NonFiniteError as error:
        return _failed(command, error, NOT_FINITE)
    except BrokenPipeError:  # the reader of our output has gone: nothing more to say to it
        if sys.stderr is not None:
            sys.stderr.close()
        return 1
    except (ValueError, TypeError, IndexError, OSError, MemoryError, ImportError) as error:
        return _failed(command, error, BAD_INPUT)
    except KeyboardInterrupt as error:
        return _failed(command, str(error) or "stopped by Ctrl-C", CTRL_C)


def _failed(command: str, error: object, code: int) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without the [Errno N] of str()
        text = error.strerror + (f": {error.filename}" if error.filename is not None else "")
    sentence = " ".join(text.split()).removeprefix(f"{command}: ")
    to_stderr(f"loopos {command}: {sentence}")
    return code
