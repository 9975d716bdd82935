"""Tables and pictures of the results of every suite, and `loopos bench` as people type it."""

from __future__ import annotations

import copy
import json

import pytest

from loopos.bench import plots, suites, tables
from loopos.cli import main


@pytest.fixture(scope="module")
def results():
    """One result of each suite, measured once."""
    return {}


LONG_SERIES = pytest.mark.unsanitized("the figures of many runs; those of the other suites stay")


MEASURED = [name for name in suites.SUITES if name != "ranks"]  # whose tables test_rank_tables.py makes of a record


@pytest.fixture(params=[pytest.param(name, marks=LONG_SERIES if name == "scaling" else []) for name in MEASURED])
def result(request, results, quick):
    if request.param not in results:
        name = "small-vit,small-captioner" if request.param == "pictures" else "tiny"
        how = {"setting": name, "peers": "loopos", "threads": 2, "rounds": 1, "steps": 1}
        measured = suites.run(request.param, **how)
        results[request.param] = _with_torch(measured)
    return copy.deepcopy(results[request.param])


def _with_torch(result):
    """The same, as if torch had taken three times as long: so that no engine has to be installed."""

    def visit(value):
        if isinstance(value, dict):
            for each in value.values():
                visit(each)
            if isinstance(value.get("peers"), list):
                for peer in list(value["peers"]):
                    slower = {key: 3 * seconds for key, seconds in peer["seconds"].items()}
                    value["peers"].append(peer | {"peer": "torch", "engine": "torch 9.9 eager", "seconds": slower})
        elif isinstance(value, list):
            for each in value:
                visit(each)

    visit(result)
    if "engines" in result:
        result["engines"]["torch"] = "torch 9.9 eager"
    for each in result.get("settings", []):
        if "ratio" in each:
            each["ratio"] = 3.0
    return result


def test_the_text_holds_the_figures(result):
    text = tables.render(result)
    assert "GFLOP/s" in text or result["suite"] == "generate"
    assert "torch" in text
    if result["suite"] != "scaling":  # which compares an engine with itself
        assert "3.00" in text
    assert result["machine"]["processor"] in text
    assert "2 threads" in text


def test_columns_of_a_terminal_are_aligned(result):
    lines = [line for line in tables.render(result).splitlines() if line]
    headers = [
        at for at, line in enumerate(lines) if any(word in line for word in ("ms/step  ", "tokens/s  ", "limit  "))
    ]
    assert headers
    for at in headers:
        assert len(lines[at + 1]) == len(lines[at])


def test_markdown_tables_are_tables(result):
    text = tables.render(result, markdown=True)
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert blocks
    for block in blocks:
        widths = {line.count("|") for line in block}
        assert len(widths) == 1, block
        assert set(block[1]) <= set("|-: ")


def test_every_result_can_be_drawn(result, tmp_path):
    pytest.importorskip("matplotlib")
    plots.draw(result, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_absent_engines_are_in_the_table(without):
    without("torch", "jax")
    text = tables.render(suites.run("steps", setting="tiny", rounds=1, steps=1))
    for name in ("torch", "torch-compiled", "jax"):
        assert f"absent: {name} ({name.partition('-')[0]} is not installed)" in text


# The command


def test_the_command_prints_writes_and_shows_again(tmp_path, capsys):
    file = tmp_path / "steps.json"
    run = ["bench", "--setting", "tiny", "--peers", "loopos", "--threads", "1", "--rounds", "1", "--steps", "2"]
    assert main([*run, "--json", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "tiny: V 17, T 8, layers 1, heads 2, C 16, B 2" in out
    assert "1 thread." in out
    assert "tiny: round 1 of 1" in err
    assert json.loads(file.read_text())["settings"][0]["peers"][0]["steps"] == 2
    assert main(["bench", "show", str(file)]) == 0
    assert capsys.readouterr().out == out
    assert main(["bench", "show", str(file), str(file), "--markdown"]) == 0
    assert capsys.readouterr().out.count("### tiny") == 2


def test_a_picture_without_matplotlib_is_refused_before_the_measuring(without, tmp_path, capsys):
    without("matplotlib")
    assert main(["bench", "--setting", "tiny", "--plot", str(tmp_path / "a.png")]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "loopos bench: plot: matplotlib is not installed; pip install matplotlib, or leave --plot out\n",
    )
