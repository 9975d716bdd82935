"""What `loopos bench` refuses, in one sentence each. Its output is tested beside the tables."""

from __future__ import annotations

import pytest

from loopos.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fast"], "invalid choice: 'fast'"),
        (["steps", "file.json"], "only show takes a FILE, got 'file.json'"),
        (["--setting", "nana"], "setting must be names with commas between"),
        (["real", "--setting", ""], "setting must be names with commas between"),
        (["--setting", ""], "setting must be names with commas between"),
        (
            ["ops", "--peers", "jax"],
            "peers must be names with commas between, out of loopos, torch, torch-medium, torch-bfloat16, got 'jax'",
        ),
        (
            ["--precision", "tf32"],
            "precision must be names with commas between, out of float32, bf16x3, bf16, got 'tf32'",
        ),
        (["generate", "--precision", "bf16"], "a precision is for steps, ops, pictures, not for generate"),
        (["steps", "--products"], "products alone are for ops, not for steps"),
        (["show", "a.json", "--products"], "show measures nothing, so it takes no products"),
        (["--rounds", "0"], "rounds must be an integer of at least 1, got 0"),
        (["--rounds", "many"], "invalid int value: 'many'"),
        (["--json", "no/such/folder/a.json"], "json: the folder of 'no/such/folder/a.json' does not exist"),
        (["--plot", "a.txt"], "plot: the name of the picture must end in .png"),
        (["show"], "show needs a FILE that --json wrote"),
        (["show", "README.md", "--rounds", "2"], "show measures nothing, so it takes no rounds"),
        (["show", "a.json", "--json", "b.json"], "json: show measures nothing"),
        (["show", "no-such.json"], "No such file or directory: no-such.json"),
    ],
)
def test_bad_commands_are_one_sentence(arguments, said, capsys):
    try:
        code = main(["bench", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "suite": "steps"}', '{"format": 2}']
)
def test_a_file_that_is_no_result_is_refused(content, tmp_path, capsys):
    (tmp_path / "a.json").write_text(content)
    assert main(["bench", "show", str(tmp_path / "a.json")]) == 2
    assert "not results that this version's `loopos bench --json` wrote" in capsys.readouterr().err
