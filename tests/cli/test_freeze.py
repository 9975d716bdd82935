"""loopos train --freeze and the shapes of attention, from the flag to the run."""

import numpy as np
from cli_runs import TRAIN

import loopos
from loopos.cli import main

QUICK = [*TRAIN, "--n-layer", "2", "--no-progress"]


def test_frozen_parameters_keep_what_the_folder_had(text, tmp_path):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert main(["train", str(text), *QUICK, "--output-dir", first]) == 0
    again = ["train", str(text), "--init", first, "--max-steps", "3", "--batch-size", "2", "--no-progress"]
    assert main([*again, "--sample", "0", "--freeze", "*embed*, blocks.0.*", "--output-dir", second]) == 0
    before, after = (loopos.Model.from_pretrained(folder).parameters() for folder in (first, second))
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == {name for name in before if "embed" in name or name.startswith("blocks.0.")}


def test_a_pattern_that_matches_nothing_is_refused(text, capsys):
    assert main(["train", str(text), *QUICK, "--freeze", "layers.0.*"]) == 2
    assert "no parameter matches 'layers.0.*'; their names are tok_embed.weight" in capsys.readouterr().err


def test_the_shape_of_attention_comes_from_flags(text, tmp_path):
    shape = ["--head-dim", "6", "--sliding-window", "4"]
    assert main(["train", str(text), *QUICK, *shape, "--output-dir", str(tmp_path / "run")]) == 0
    config = loopos.Model.from_pretrained(tmp_path / "run").config
    assert (config.head_width, config.sliding_window) == (6, 4)
