"""The pages of docs/ as programs: their blocks of Python and of commands are run, what they say is printed is looked
for."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from loopos.data.examples.forms import example_of


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)


def missing(expected: str, printed: str) -> list[str]:
    """The first line of ``expected`` that is not a part of a line of ``printed``, in their order; ``…`` is anything."""
    lines = iter(printed.splitlines())
    for wanted in filter(str.strip, expected.splitlines()):
        pattern = ".*".join(map(re.escape, wanted.strip().split("…")))
        if not any(re.search(pattern, line) for line in lines):
            return [wanted]
    return []


def run_commands(content: str, folder: Path, left_out: tuple[str, ...] = (), timeout: int = 120) -> str:
    """What each line prints, on both streams; its exit code is 0, or that of a comment ``# exit code N`` behind it.
    ``echo WORDS |`` before a command is its input. Commands of the names ``left_out`` are not run."""
    printed = ""
    for line in filter(str.strip, content.splitlines()):
        command, *more = shlex.split(line, comments=True) or ["#"]
        if command == "#" or command in left_out:
            continue
        said = ""
        if command == "echo" and "|" in more:
            pipe = more.index("|")
            said, (command, *more) = " ".join(more[:pipe]) + "\n", more[pipe + 1 :]
        assert command == "loopos", f"a page runs {command!r}, which no test does: {line}"
        # The audit and the checks are told where progress is; a dry run has no bar to leave out.
        quiet = ["--no-progress"] if more[0] == "train" and "--dry-run" not in more else []
        run = subprocess.run(
            [sys.executable, "-m", "loopos", *more, *quiet],
            cwd=folder,
            input=said.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
        text = run.stdout.decode(errors="replace")
        wanted = int((re.search(r"# exit code (\d+)$", line) or [0, 0])[1])
        assert run.returncode == wanted, f"{line}\nexit code {run.returncode}:\n{text}"
        printed += text
    return printed


def run_page(page: Path, folder: Path, log: list[str] | None = None, **limits: Any) -> int:
    """Run every block of a page in order, in ``folder``, which is the working directory too; how many there were. A
    block of text is what the blocks since the one before it print; one of JSON has an example to learn in each line.
    ``log`` takes what each block of commands prints; ``limits`` are those of `run_commands`."""
    variables: dict[str, Any] = {}
    printed, count = "", 0
    for language, content in blocks(page.read_text()):
        if language == "text":
            wrong = missing(content, printed)
            assert not wrong, f"{page.name}: {wrong[0]!r} is not printed, but:\n{printed}"
            printed = ""
        elif language == "bash":
            said = run_commands(content, folder, **limits)
            printed, count = printed + said, count + 1
            if log is not None:
                log.append(said)
        elif language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(content, f"<{page.name}>", "exec"), variables)
            printed, count = printed + out.getvalue(), count + 1
        elif language == "json":
            for line in content.splitlines():
                example_of(json.loads(line), page.name)
        else:
            raise AssertionError(f"{page.name}: a block of {language!r}, which no test runs")
    return count
