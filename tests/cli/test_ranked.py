"""The command line as one of several processes."""

from __future__ import annotations

import pytest
from under_mpi import mpi_needed, result_of

from loopos.cli import main, ranked
from loopos.distributed import Distributed
from loopos.errors import RankError

pytestmark = pytest.mark.usefixtures("started_by_nobody")


def test_alone_nothing_is_distributed():
    assert ranked.take({}) == {}
    assert ranked.behind("train") is None
    with pytest.raises(ValueError, match="fast_reduce is of a run over several processes"):
        ranked.take({"fast_reduce": True})


def test_under_a_launcher_it_is(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert ranked.take({}) == {"distributed": "auto"}
    assert ranked.take({"distributed": "none"}) == {}
    asked = {"fast_reduce": True, "rank_timeout": 9.0, "seed": 1}
    assert ranked.take(asked) == {"distributed": Distributed(fast_reduce=True, timeout=9.0)}
    assert asked == {"seed": 1}
    assert ranked.behind("train") == 1
    assert ranked.behind("eval") is None
    monkeypatch.setenv("PMI_RANK", "0")
    assert ranked.behind("train") is None


def test_another_word_is_refused(capsys):
    assert main(["train", "--distributed", "mpi", "--max-steps", "1"]) == 2
    assert "distributed must be None, 'auto'" in capsys.readouterr().err


def test_what_no_rank_can_take_is_refused(capsys):
    with pytest.raises(SystemExit) as refused:
        main(["train", "--wire", "int8"])
    assert refused.value.code == 2
    assert "--wire: invalid choice: 'int8' (choose from 'float32', 'bfloat16')" in capsys.readouterr().err
    with pytest.raises(ValueError, match="train: rank_timeout must be a finite number greater than 0"):
        ranked.take({"rank_timeout": 0.0})


COMMAND = """
import contextlib, io, json, sys
import loopos.cli
said = io.StringIO()
with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
    try:
        code = loopos.cli.main(json.loads(sys.argv[1]))
    except SystemExit as ended:
        code = ended.code
tell([code, said.getvalue()])
"""


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--rank-timeout", "0"], "rank_timeout must be a finite number greater than 0"),
        (["--shards", "1"], "2 ranks share the shards of a batch"),
        (["--wire", "int8"], "invalid choice: 'int8'"),
        (["--wire", "int8", "--json"], "invalid choice: 'int8'"),
    ],
)
def test_what_all_ranks_find_is_said_once(asked, says, text, tmp_path):
    first, second = result_of(COMMAND, ["train", text, "--max-steps", "1", *asked], ranks=2, folder=tmp_path)
    assert (first[0], second) == (2, [2, ""])
    assert says in first[1]


def test_a_rank_behind_lets_the_first_speak(monkeypatch, capsys):
    monkeypatch.setattr(ranked, "_FIRST", 0.0)
    monkeypatch.setenv("PMI_RANK", "3")
    alone = ["train", "--distributed", "none", "--max-steps", "1"]
    assert main([*alone, "--batch-size", "0"]) == 2
    assert capsys.readouterr().err == "loopos train: batch_size must be an integer of at least 1, got 0\n"
    told = RankError("rank 1 has died")
    assert not ranked.tells("train", told)
    assert ranked.tells("train", ValueError("said here"))


def test_doctor_looks_at_its_own_machine(monkeypatch, capsys):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    tiny = ["--n-layer", "1", "--d-model", "16", "--n-head", "2", "--context-length", "16"]
    assert main(["doctor", "--quick", *tiny]) == 0
    assert "checks passed" in capsys.readouterr().out
