"""README and its neighbours: the commands are the ones that are checked, links lead somewhere, snippets run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import missing, run_commands, run_page

import loopos

ROOT = Path(__file__).resolve().parents[1]
OTHERS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "benchmarks/results/README.md")
DOCUMENTS = [*(ROOT / name for name in (*OTHERS, "cpp/README.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def section(text: str, title: str) -> str:
    return re.search(rf"^## {title}$(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands(text: str) -> list[str]:
    lines = "".join(fenced(text, "bash")).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def broken_links(document: Path) -> list[str]:
    """Relative links and pictures of a Markdown file that lead to no file, or to no heading of it."""
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.M | re.S)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, heading = target.partition("#")
        leads = document.parent / path if path else document
        if "://" not in target and not (leads.exists() and (not heading or heading in headings(leads))):
            broken.append(target)
    return broken


def headings(document: Path) -> list[str]:
    """The anchors of a Markdown file, as they are made of its headings."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return [re.sub(r" +", "-", re.sub(r"[^\w\- ]", "", title.lower()).strip()) for title in titles]


def test_quick_start_is_exactly_two_commands_that_do_the_set_up_too():
    two = commands(section((ROOT / "README.md").read_text(), "Quick start"))
    assert len(two) == 2
    for command in two:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert two[0].endswith(".venv/bin/loopos train")
    assert two[1].endswith(".venv/bin/pytest")


def test_ci_runs_the_test_command_of_the_readme():
    run = subprocess.run(["bash", str(ROOT / ".ci/run"), "--test-command"], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == commands(section((ROOT / "README.md").read_text(), "Quick start"))[1]


def test_ci_refuses_a_readme_without_a_test_command(tmp_path):
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/run").write_text((ROOT / ".ci/run").read_text())
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text().replace("/bin/pytest", "/bin/true"))
    run = subprocess.run(["bash", str(tmp_path / ".ci/run")], capture_output=True, text=True, timeout=30)
    assert run.returncode == 1
    assert "one test command" in run.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document):
    assert broken_links(document) == []


def test_a_broken_link_would_be_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# The top\n[a](page.md#the-top) [b](gone.md) [f](#bottom) ![c](no/picture.png) [d](https://example.org/x)\n```\n[e](code)\n```\n"
    )
    assert broken_links(page) == ["gone.md", "#bottom", "no/picture.png"]


def test_python_snippets_of_the_readme_run(capsys, monkeypatch):
    snippets = fenced((ROOT / "README.md").read_text(), "python")
    assert len(snippets) == 2
    monkeypatch.chdir(ROOT)
    for snippet in snippets:
        small = re.sub(r"max_steps=\d+", "max_steps=3, progress=False", snippet)
        exec(compile(small, "<snippet of README.md>", "exec"), {})
    step, loss = capsys.readouterr().out.split()
    assert int(step) == 3
    assert 0 < float(loss) < 7


def test_readme_lists_the_subcommands():
    documented = re.findall(r"^loopos (\w+)", fenced((ROOT / "README.md").read_text(), "text")[0], re.M)
    command = [sys.executable, "-m", "loopos", "--help"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(loopos.__file__).parents[1])
    assert run.returncode == 0, run.stderr
    assert sorted(documented) == sorted(re.findall(r"^    (\w+)", run.stdout, re.M))


PAGES = sorted((ROOT / "docs/tutorials").glob("*.md"))
PAGES += [ROOT / f"docs/{name}.md" for name in ("symptoms", "data", "adapters", "modulated", "tasks", "captioning")]
PAGES += [ROOT / "docs/precision.md", ROOT / "docs/covariance.md"]


@pytest.mark.unsanitized("trainings, each in a process of its own; the operations and the trainer have tests of theirs")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_is_what_happens(page, tmp_path, monkeypatch):
    if page.stem == "data":
        pytest.importorskip("tokenizers", reason="the page trains a tokenizer (extra [hf])")
    if page.stem == "captioning":
        pytest.importorskip("PIL", reason="the page writes and reads pictures (extra [vision])")
        pytest.importorskip("sklearn", reason="the page looks at scikit-learn's digits (extra [sklearn])")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    assert run_page(page, tmp_path) >= 3


def test_a_page_that_is_wrong_would_be_seen(tmp_path):
    assert missing("a … c\nd", "x\na b c\n d\n") == []
    assert missing("d\na … c", "x\na b c\n d\n") == ["a … c"]
    with pytest.raises(AssertionError, match="exit code 2"):
        run_commands("loopos eval nowhere\n", tmp_path)
    assert "nowhere" in run_commands("loopos eval nowhere  # exit code 2\n", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n```text\n2\n```\n")
    with pytest.raises(AssertionError, match="'2' is not printed"):
        run_page(page, tmp_path)
