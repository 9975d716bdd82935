"""The command line as one of several processes."""

from __future__ import annotations

import json
import re
import warnings
from contextlib import nullcontext

import pytest
from pictures import two_shades
from under_mpi import mpi_needed, result_of

import loopos
from loopos import cli
from loopos.cli import main, ranked
from loopos.cli.reply import Reply
from loopos.distributed import Distributed
from loopos.errors import RankError

pytestmark = pytest.mark.usefixtures("started_by_nobody")


def test_alone_nothing_is_distributed():
    assert ranked.take({}) == {}
    assert not ranked.behind()
    with pytest.raises(ValueError, match="fast_reduce is of a run over several processes"):
        ranked.take({"fast_reduce": True})


def test_under_a_launcher_it_is(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert ranked.take({}) == {"distributed": "auto"}
    assert ranked.take({"distributed": "none"}) == {"distributed": None}
    asked = {"fast_reduce": True, "rank_timeout": 9.0, "seed": 1}
    assert ranked.take(asked) == {"distributed": Distributed(fast_reduce=True, timeout=9.0)}
    assert asked == {"seed": 1}
    assert ranked.behind()
    assert ranked.behind(ranked.take({}))
    assert ranked.behind({"seed": 1})
    for apart in {"distributed": "none"}, ranked.take({"distributed": "none"}):
        assert not ranked.behind(apart)
    monkeypatch.setenv("PMI_RANK", "0")
    assert not ranked.behind()


def test_what_srun_started_without_mpi_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    assert main(["train", "--max-steps", "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("loopos train: srun started 3 processes that do not know of each other")
    assert ranked.take({"distributed": "none"}) == {"distributed": None}


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


SMALL = ["--n-layer", "1", "--d-model", "16", "--n-head", "2", "--context-length", "16"]
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


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
def test_a_rank_that_never_has_a_row_is_named_once(text, tmp_path):
    asked = ["train", text, "--max-steps", "1", "--batch-size", "1", "--shards", "2", "--output-dir", "run", *SMALL]
    first, second = result_of(COMMAND, asked, ranks=2, folder=tmp_path)
    assert (first[0], second) == (0, [0, ""])
    assert first[1].count("loopos train: of 1 rows in 2 shards rank 0 never has one") == 1


def test_a_rank_behind_lets_the_first_speak(monkeypatch, capsys):
    monkeypatch.setattr(ranked, "_FIRST", 0.0)
    monkeypatch.setenv("PMI_RANK", "3")
    alone = ["train", "--distributed", "none", "--max-steps", "1"]
    assert main([*alone, "--batch-size", "0"]) == 2
    assert capsys.readouterr().err == "loopos train: batch_size must be an integer of at least 1, got 0\n"
    told = RankError("rank 1 has died")
    assert not ranked.tells(told)
    assert ranked.tells(ValueError("said here"))


def test_doctor_looks_at_its_own_machine_alone_where_it_is_asked_to(monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    for rank in "0", "1":
        monkeypatch.setenv("PMI_RANK", rank)
        assert main([*TINY, "--distributed", "none"]) == 0
        assert "checks passed" in capsys.readouterr().out


def test_processes_that_train_apart_each_speak(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "1")
    run = ["covariance", "train", "--preset", "line", "--max-steps", "1", "--samples", "0", "--no-progress"]
    assert main([*run, "--distributed", "none", "--output-dir", str(tmp_path / "a")]) == 0
    assert "updates 1" in capsys.readouterr().out
    train = ["train", "--max-steps", "1", "--no-progress", "--distributed", "none", *SMALL]
    assert main([*train, "--output-dir", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["step"] == 1


DOCTOR = (
    """
import json, os, sys
asked = json.loads(sys.argv[1])
here = os.environ["PMI_RANK"] == "1"
if here and "isa" in asked:
    os.environ["LOOPOS_ISA"] = asked.pop("isa")
if here and "build" in asked:
    import loopos.run.bundle
    loopos.run.bundle.__version__ = asked.pop("build")
asked["asked"] += asked.pop("there", []) if here else []
sys.argv[1] = json.dumps(asked["asked"])
"""
    + COMMAND
)
TINY = ["doctor", "--quick", *SMALL]


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({}, "ok   ranks: 2 ranks have the same; expected the same build, instruction set, configuration"),
        ({"build": "0.0.9"}, r"FAIL ranks: rank 1 on \S+ has another loopos than rank 0 on \S+: 0.0.9 there"),
        ({"isa": "avx2"}, r"FAIL ranks: rank 1 on \S+ has another isa than rank 0 on \S+: avx2 there, avx512 here"),
        ({"there": ["--learning-rate", "0.5"]}, r"FAIL ranks: rank 1 on .* another learning_rate \(settings\) .*: 0.5"),
        ({"there": ["--d-ff", "48"]}, r"FAIL ranks: rank 1 on .* another d_ff \(config\) than rank 0"),
        ({"other": "jsonl"}, r"FAIL ranks: rank 1 on .* another training data \(their SHA-256\) than rank 0"),
        ({"other": "txt"}, r"FAIL ranks: rank 1 on .* another training data \(their SHA-256\) than rank 0"),
    ],
    ids=["alike", "build", "isa", "settings", "config", "examples", "text"],
)
def test_doctor_compares_the_ranks_and_names_the_one_that_differs(fault, says, text, tmp_path):
    if "isa" in fault and str(loopos._core.isa()) != "avx512":
        pytest.skip("the instruction sets of the test are others")
    fault = dict(fault)
    script, command = DOCTOR, [*TINY, str(text)]
    if (suffix := fault.pop("other", None)) is not None:
        line = '{"text": "abcdefgh"}\n' if suffix == "jsonl" else "abcdefgh\n"
        (tmp_path / f"data.{suffix}").write_text(line * 20)
        (tmp_path / f"other.{suffix}").write_text(line.replace("abcdefgh", "hgfedcba") + line * 19)
        command[-1] = f"data.{suffix}"
        other = f'asked["asked"][-1] = "{"other." + suffix}" if here else asked["asked"][-1]'
        script = DOCTOR.replace("sys.argv[1] =", f"{other}\nsys.argv[1] =")
    first, second = result_of(script, {"asked": command, **fault}, ranks=2, folder=tmp_path)
    assert re.search(says, first[1]), first[1]
    assert second[1] == ""
    assert first[0] == second[0] == (1 if "FAIL" in says else 0)
    assert first[1].count("ranks:") == 1
    assert "checks passed" in first[1]


MEASURED = re.compile("seconds|per_second|time|rss|memory|process|mfu")  # differs from run to run
KINDS = {
    "caption": ["caption", "--max-steps", "2", "--subset", "60", "--scored", "4"],
    "classify": ["classify", "FOLDER", "--epochs", "1", "--image-size", "8", "--patch-size", "4", "--d-model", "16"],
    "covariance": ["covariance", "train", "--max-steps", "2", "--samples", "0", "--preset", "line"],
}


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
@pytest.mark.parametrize("kind", KINDS)
def test_other_trainings_are_one_run_too(kind, tmp_path):
    command = [str(two_shades(tmp_path / "set")) if each == "FOLDER" else each for each in KINDS[kind]]
    command += ["--batch-size", "4", "--shards", "4", "--log-every", "1", "--no-progress", "--seed", "3"]
    told, weights, logged = {}, {}, {}
    for ranks in (None, 2, 3):
        out = tmp_path / f"run-{ranks}"
        told[ranks] = result_of(COMMAND, [*command, "--output-dir", str(out)], ranks=ranks, folder=tmp_path)
        (last,) = sorted(out.glob("step-*"))[-1:]
        weights[ranks] = (last / "model.safetensors").read_bytes()
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        logged[ranks] = [{name: line[name] for name in sorted(line) if not MEASURED.search(name)} for line in lines]
        assert not list(out.glob("*.old.*"))
        assert [code for code, _ in told[ranks]] == [0] * (ranks or 1)
        assert ["updates" in text for _, text in told[ranks]] == [True] + [False] * (len(told[ranks]) - 1)
        assert "".join(text for _, text in told[ranks][1:]) == ""
        assert weights[ranks] == weights[None]
        assert logged[ranks] == logged[None]


ARGUMENTS = {  # that a command cannot do without
    "eval": ["run"], "generate": ["run", "--prompt", "a"], "import": ["a.gguf", "out"], "export": ["run", "out"],
    "chat": ["run"], "serve": ["run"], "replay": ["bundle"], "report": ["run"],
}  # fmt: skip
ONCE = [each for each in cli.COMMANDS if each not in (*ranked.COMMANDS, *ranked.TOLD)]


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        *(([each, *ARGUMENTS.get(each, [])], each) for each in ONCE),
        (["caption", "--predict", "run", "a.png"], "caption --predict"),
        (["covariance", "demo"], "covariance demo"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_what_one_process_does_is_refused_for_several(asked, what, rank, monkeypatch, capsys):
    monkeypatch.setattr(ranked, "together", lambda given: nullcontext())
    monkeypatch.setenv("PMI_RANK", str(rank))
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main(asked) == 2
    said = capsys.readouterr()
    assert (said.out, said.err == "") == ("", rank == 1)
    if rank == 0:
        assert (
            f"loopos {asked[0]}: {what} is done by one process, and a launcher started 2, which would all do it"
            in said.err
        )
        assert "start it once" in said.err


def test_every_command_is_of_one_kind():
    assert {*ranked.COMMANDS, *ranked.TOLD} <= {*cli.COMMANDS}
    assert not {*ranked.COMMANDS} & {*ranked.TOLD}
    assert {"bench", "chat", "compare", "export", "gradcheck", "import", "replay", "report", "serve"} <= {*ONCE}


LOG = "step 1: loss nan\n"


@pytest.mark.parametrize(
    "asked", [["info"], ["info", "--json"], ["explain", LOG], ["diff", "a", "b"], ["--version"], ["info", "--help"], []]
)
def test_what_only_tells_is_told_once(asked, monkeypatch, capsys):
    said = {}
    monkeypatch.setenv("PMI_SIZE", "2")
    for rank in "0", "1":
        monkeypatch.setenv("PMI_RANK", rank)
        with pytest.raises(SystemExit) if "--help" in asked else nullcontext():
            main(asked)
        said[rank] = "".join(capsys.readouterr())
    assert said["0"] != ""
    assert said["1"] == ""


def test_a_launcher_of_one_process_changes_nothing(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "1")
    ranked.refuse("export")
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ValueError, match="start it once"):
        ranked.refuse("export")


@pytest.mark.parametrize("said", ["train: one", "train: train: one", "doctor: train: one"])
def test_a_message_names_the_command_once(said, monkeypatch, capsys):
    def refuses(given):
        raise ValueError(said)

    command = said.partition(":")[0]
    monkeypatch.setitem(cli.COMMANDS, command, (refuses, *cli.COMMANDS[command][1:]))
    assert main([command]) == 2
    assert capsys.readouterr().err == f"loopos {command}: one\n"


def test_a_warning_names_the_command_once(monkeypatch, capsys):
    def warns(given):
        warnings.showwarning(UserWarning("train: one"), UserWarning, "", 1)
        return Reply({}, None)

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main puts its own in its place
    monkeypatch.setitem(cli.COMMANDS, "train", (warns, *cli.COMMANDS["train"][1:]))
    assert main(["train"]) == 0
    assert capsys.readouterr().err == "loopos train: one\n"
