"""docs/distributed.md: its commands are commands, its scripts scripts."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from loopos.cli import build_parser

PAGE = (Path(__file__).resolve().parents[2] / "docs/distributed.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)


def commands():
    for block in BLOCKS:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removesuffix(" &"), comments=True)
            if "loopos" in words:
                yield words[words.index("loopos") + 1 :]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_is_one(words):
    given = vars(build_parser().parse_args(words))
    if words[0] == "launch":
        assert given["program"][0] == "train"
        given = vars(build_parser().parse_args(given["program"]))
    assert given["text"] == "novel.txt"


def test_there_are_commands_and_a_script():
    assert len(list(commands())) >= 4
    assert any(block.startswith("#!/bin/bash\n#SBATCH") for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_is_shell(block):
    assert subprocess.run(["bash", "-n", "-c", block], check=False).returncode == 0
