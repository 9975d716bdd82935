""".ci/docs_site.py: links, docstrings and the quick start on their way to the site, which .ci/run builds."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("docs_site", ROOT / ".ci/docs_site.py")
site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site)


@pytest.mark.parametrize(
    ("page", "link", "wanted"),
    [
        ("index.md", "[a](docs/symptoms.md)", "[a](symptoms.md)"),
        ("index.md", "![a](docs/bench_steps.png)", "![a](bench_steps.png)"),
        ("index.md", "[a](CONTRIBUTING.md#where-things-are)", "[a](contributing.md#where-things-are)"),
        ("index.md", "[LICENSE](LICENSE)", "LICENSE"),
        ("index.md", "[the log](cpp/ops/softmax.h)", "the log (`cpp/ops/softmax.h`)"),
        ("symptoms.md", "[a](../examples/cases/README.md)", "[a](cases.md)"),
        ("symptoms.md", "[a](tutorials/sick-run.md) [b](#here)", "[a](tutorials/sick-run.md) [b](#here)"),
        ("tutorials/sick-run.md", "[a](../../README.md)", "[a](../index.md)"),
        ("cpp.md", "[a](kernels/README.md) [b](../docs/architecture.md)", "[a](kernels.md) [b](architecture.md)"),
        ("cpp.md", "[a](https://example.org/b.md)", "[a](https://example.org/b.md)"),
        ("cpp.md", "```text\n[a](kernels/README.md)\n```\n", "```text\n[a](kernels/README.md)\n```\n"),
    ],
)
def test_links_lead_to_pages(page, link, wanted):
    assert site.rewrite_links(link, page) == wanted


def test_a_link_that_leads_nowhere_ends_the_build():
    with pytest.raises(ValueError, match="which leads to no file"):
        site.rewrite_links("[a](gone.md)", "symptoms.md")


def test_the_quick_start_is_that_of_the_readme():
    text = site.quick_start((ROOT / "README.md").read_text())
    assert ".venv/bin/loopos train\n" in text
    with pytest.raises(ValueError, match="no section 'Quick start'"):
        site.quick_start("# LoopOS\n")


def test_what_is_outside_of_docs_is_there():
    assert [path for path in site.OUTSIDE.values() if not (ROOT / path).is_file()] == []


def test_every_page_of_the_navigation_exists_and_every_page_is_in_it():
    named = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(named) == sorted([*pages, *site.OUTSIDE, site.QUICK_START])


@pytest.mark.parametrize(
    ("docstring", "wanted"),
    [
        ("Of :class:`loopos.Birth` and ``x``.", "Of `loopos.Birth` and `x`."),
        ("Text of  two blanks.\n\nOne: a line.\n", "Text of  two blanks.\n\nOne: a line."),
        ("lr    the rate,\n      in full\na, b  more", "- `lr`: the rate, in full\n- `a, b`: more"),
        ("x: one.\ny: two,\nand more.", "- `x`: one.\n- `y`: two, and more."),
        ("fn: one,\n    and more.", "- `fn`: one, and more."),
        ("Head.\nfn: one,\n    and more.", "Head.\n\n- `fn`: one, and more."),
        ("x: of one shape. Returns y.", "x: of one shape. Returns y."),
        ("As here::\n\n    a   b\n", "As here:\n\n    a   b"),
    ],
)
def test_docstrings_become_markdown(docstring, wanted):
    assert site.docstring_to_markdown(docstring) == wanted


def test_types_of_the_stub_are_plain():
    stub = "f(x: typing.Any, p: typing.SupportsFloat | typing.SupportsIndex = 0.0, n: typing.Any = None) -> typing.Any"
    assert site.plain_types(stub) == "f(x, p: float = 0.0, n = None)"


def test_a_reference_is_found_with_its_options():
    text = "# A\n\n::: loopos.ops\n    options:\n      heading_level: 2\n\nMore.\n"
    assert site.REFERENCE.sub("here\n", text) == "# A\n\nhere\n\nMore.\n"
