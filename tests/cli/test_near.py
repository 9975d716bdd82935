"""loopos/cli/near.py: a flag of another tool, or one misspelt, is answered with ours."""

import pytest

from loopos.cli import main, options
from loopos.cli.near import ELSEWHERE, near


@pytest.mark.parametrize(
    ("command", "flag", "said"),
    [
        ("train", "--lr", "--learning-rate"),
        ("train", "--lr=0.1", "--learning-rate"),
        ("train", "--max_steps", "--max-steps"),
        ("train", "--Max-Steps", "--max-steps"),
        ("train", "--model", "--init"),
        ("train", "--max_iters", "--max-steps"),
        ("train", "--block_size", "--context-length"),
        ("train", "--grad_clip", "--max-grad-norm"),
        ("train", "--data", "TEXT"),
        ("train", "--leraning-rate", "--learning-rate"),
        ("eval", "--bs", "--batch-size"),
        ("doctor", "--lr", "--learning-rate"),
        ("generate", "--max_tokens", "--max-new-tokens"),
        ("generate", "--temp", "--temperature"),
    ],
)
def test_a_flag_that_is_called_otherwise_here(command, flag, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "folder", flag] + ([] if "=" in flag else ["3"]))
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert f"; did you mean {said}?; see loopos {command} --help" in err
    assert err.count("\n") == 1


def test_keys_of_a_file(tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text("[train]\nlr = 0.1\n")
    assert main(["train", "--config", str(path)]) == 2
    assert "unknown setting 'lr' in [train]; did you mean learning_rate? There are" in capsys.readouterr().err


def test_a_byte_order_mark_in_front_of_a_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbfmax_steps = 3\r\n")
    assert options.read_config(str(path)) == {"max_steps": 3}


def test_every_name_is_of_one_setting():
    every = [name for names in ELSEWHERE.values() for name in names]
    assert len(every) == len(set(every))
    known = set(options.RUN) | set(options.TRAIN) | set(options.MODEL) | set(options.ADAPTER)
    assert not known & set(every)
    assert near("zzz", known) is None


def test_a_word_that_is_near_by_chance_is_not_offered():
    known = ("sample", "seed", "max_steps", "threads")
    for name in ("--compile", "--device", "--fp16"):
        assert near(name, known) is None
    assert near("--sampel", known) == "sample"
