"""The tables of `loopos bench ranks`, of a record that can be worked out by hand."""

from __future__ import annotations

import pytest
from rank_record import record

from loopos.bench import plots, rank_tables, tables


def lines(result, markdown=False):
    return tables.render(result, markdown=markdown).splitlines()


def cells(result, begins):
    """The cells of the first row that begins so."""
    row = next(line for line in lines(result, True) if line.startswith(f"| {begins}"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_row_for_each_engine_and_number_of_ranks():
    assert cells(record(), "loopos, tree")[1:] == ["2 x 1", "1,000", "900–1,100", "32.0", "800", "20 %", "200 MiB"]
    assert cells(record(), "loopos |")[1] == "1 x 2"
    assert cells(record(), "loopos |")[6] == "-"  # one process communicates with nobody
    assert "absent: loopos, 4 x 1 (mpi4py is not installed)" in lines(record())


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("LoopOS over DDP, tokens/s", "2.00"),
        ("LoopOS, fast reduction, over DDP", "2.50"),
        ("LoopOS, bfloat16 on the wire, over DDP", "4.00"),
        ("LoopOS, optimizer sharded, over DDP", "2.22"),
        ("LoopOS over DDP, peak RSS", "0.25"),
        ("LoopOS, ranks over one process", "0.60"),
        ("PyTorch, ranks over one process", "0.60"),
        ("communication, LoopOS |", "20 %"),
        ("communication, LoopOS, fast reduction", "0.0 %"),
        ("communication, LoopOS, bfloat16", "0.0 %"),
        ("communication, DDP", "25 %"),
    ],
)
def test_the_ratios(row, value):
    assert cells(record(), row)[1] == value


def test_a_ratio_of_what_is_absent_is_a_dash():
    result = record()
    result["settings"][0]["peers"] = result["settings"][0]["peers"][:1]
    assert cells(result, "LoopOS over DDP, tokens/s")[1] == "-"


def test_an_engine_that_nobody_asked_for_has_no_row():
    result = record()
    for each in result["settings"]:
        each["peers"] = [peer for peer in each["peers"] if peer["peer"] != "loopos-zero"]
    assert not [line for line in lines(result) if "optimizer sharded" in line and "Computed" not in line]
    assert cells(result, "LoopOS over DDP, tokens/s")[1] == "2.00"


def test_the_model_stands_beside_each_measured_step_and_says_by_how_much_it_is_off():
    text = "\n".join(lines(record()))
    assert cells(record(), "toy | memory | tree")[3:] == ["1,000", "904", "-9.6 %", "800", "104"]
    assert cells(record(), "toy | memory | bfloat16 wire")[3:] == ["500", "954", "+91 %", "800", "154"]
    assert "at worst (toy, memory, bfloat16 wire)" in text


def test_a_page_takes_the_short_form_under_a_lower_heading():
    short = rank_tables.projected(record(), True, 4, short=True)
    assert [block.splitlines()[0].partition(":")[0] for block in short] == ["#### Computed"] * 3
    assert "4 passes" in short[0]
    assert rank_tables.check(record(), True, 4).startswith("#### The model")
    nothing = record() | {"settings": []}
    assert rank_tables.check(nothing, True) == ""
    assert rank_tables.projected(nothing, True) == []


def test_what_is_computed_is_called_so():
    titles = [line for line in lines(record()) if line.startswith("Computed: ")]
    assert len(titles) == 7
    assert [title.rpartition("(")[2] for title in titles[4:6]] == [
        "bfloat16 on the wire, no overlap)",
        "tree, optimizer sharded, no overlap)",
    ]
    result = record()
    del result["network"]["here"]["rounding"]  # what it takes was not measured
    assert "bfloat16 on the wire, no overlap" not in "\n".join(lines(result))
    assert cells(record(), "toy, 100 Gbit/s")[0] == "toy, 100 Gbit/s"
    assert len(cells(record(), "toy, 1 Gbit/s")) == 11


def test_links_that_are_not_there_are_told():
    result = record()
    result["network"]["slow"], result["slow"] = None, {"absent": "no network namespaces here: not root"}
    text = "\n".join(lines(result))
    assert "no slow link: no network namespaces here: not root" in text
    assert "absent: gloo (torch is not installed)" in text
    assert "a message of MPI takes 1,000 µs and carries 0.040 GB/s" in text


def test_a_busy_machine_is_told():
    assert "busy" not in "\n".join(lines(record()))
    text = "\n".join(lines(record() | {"load": 3.0}))
    assert "**The machine was busy**: 3.00 other programs wanted its 2 cores" in text


def test_markdown_tables_are_tables():
    blocks = [block.splitlines() for block in "\n".join(lines(record(), True)).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 12
    assert all(len({line.count("|") for line in block}) == 1 for block in blocks)


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    plots.draw(record(), str(tmp_path / "ranks.png"))
    assert (tmp_path / "ranks.png").stat().st_size > 1000
