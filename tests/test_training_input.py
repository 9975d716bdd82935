"""What train refuses, and that it does so before anything else happens."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos

CONFIG = loopos.ModelConfig(vocab_size=64, context_length=8, n_layer=1, n_head=2, d_model=8)
IDS = np.arange(200) % 64


def train(data=IDS, **kwargs):
    return loopos.train(CONFIG, data, **({"max_steps": 2, "batch_size": 2, "progress": False} | kwargs))


def bits(model):
    return b"".join(view.tobytes() for view in model.parameters().values())


BAD = {"learning_rate": math.nan, "batch_size": 0, "grad_accum": True, "betas": (0.9, 1.5), "max_grad_norm": -1}
BAD |= {
    "optimizer": "adagrad",
    "on_nonfinite": "hope",
    "moments": "int8",
    "eps": 0,
    "seed": -1,
    "max_steps": 0,
    "epochs": "2",
    "threads": 0,
}
BAD |= {"seq_len": 9, "weight_decay": math.inf, "log_every": 0, "save_every": 0, "eval_every": 0, "warmup_steps": -1}


@pytest.mark.parametrize("name", BAD)
def test_bad_hyper_parameters_are_value_errors_before_anything(name, tmp_path):
    model = loopos.Model(CONFIG)
    before = bits(model)
    with pytest.raises(ValueError, match=name):
        loopos.train(model, IDS, **({"output_dir": tmp_path / "run", "progress": False} | {name: BAD[name]}))
    assert bits(model) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", [b"", "", np.zeros(0, np.int64), []])
def test_empty_data(data):
    with pytest.raises(ValueError, match=r"0 tokens.*at least 9"):
        train(data)


def test_text_shorter_than_a_sequence():
    with pytest.raises(ValueError, match=r"8 tokens.*seq_len 8.*at least 9"):
        train(IDS[:8])
    assert train(IDS[:9]).step == 2


@pytest.mark.parametrize("bad", [64, -1, 2**40])
def test_an_id_out_of_range_is_refused_with_position_and_value(bad, tmp_path):
    ids = IDS.astype(np.int64)
    ids[150] = bad
    with pytest.raises(IndexError, match=rf"id {bad} at position 150"):
        train(ids, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_kinds_of_data_model_and_callbacks():
    with pytest.raises(TypeError, match="float64"):
        train(IDS.astype(float))
    with pytest.raises(TypeError, match="model must be"):
        loopos.train({"vocab_size": 3}, IDS)
    with pytest.raises(TypeError, match="callbacks"):
        train(callbacks=loopos.Callback())
    with pytest.raises(TypeError, match="on_step_end"):
        train(callbacks=[object()])
    with pytest.raises(TypeError, match="tokenizer"):
        train(tokenizer=3)
    with pytest.raises(FileNotFoundError):
        train(Path("no/such/file.txt"))


def test_eval_data_are_checked_before_the_first_step():
    model = loopos.Model(CONFIG)
    before = bits(model)
    with pytest.raises(IndexError, match="eval_data"):
        loopos.train(model, IDS, eval_data=np.array([1, 2, 99]), max_steps=2, progress=False)
    assert bits(model) == before


# Datasets


class Masked:
    def __init__(self, scored=0):
        self.scored = scored

    def batch(self, step, micro):
        ids = np.tile(np.arange(8), (2, 1))
        return ids, np.where(step < self.scored, ids, -100)


def test_all_labels_ignored_changes_nothing_and_is_told():
    model = loopos.Model(CONFIG)
    before = bits(model)
    with pytest.warns(UserWarning, match="every target of 3 updates was -100"):
        result = loopos.train(model, Masked(), max_steps=3, log_every=1, progress=False)
    assert bits(model) == before
    assert [(line["loss"], line["grad_norm"], line["valid_tokens"]) for line in result.history] == [(0.0, 0.0, 0)] * 3


def test_an_evaluation_without_a_target_has_no_loss_and_is_told(tmp_path):
    """0.0 would be the best loss there is."""

    class Held(Masked):
        def __len__(self):
            return 1

    settings = {"max_steps": 2, "progress": False, "output_dir": tmp_path / "run"}
    with pytest.warns(UserWarning, match="every target of eval_data was -100"):
        result = loopos.train(CONFIG, IDS, eval_data=Held(), **settings)
    assert math.isnan(result.history[-1]["eval_loss"])
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["eval_loss"] is None
    assert result.verdict.kind == "not evaluated"


def test_an_update_without_labels_is_not_counted_by_the_optimizer(tmp_path):
    result = train(Masked(scored=2), max_steps=3, log_every=1, output_dir=tmp_path / "run", lr_schedule="constant")
    assert [line["valid_tokens"] for line in result.history] == [16, 16, 0]
    two = train(Masked(scored=2), max_steps=2, lr_schedule="constant")
    assert bits(result.model) == bits(two.model)


def test_a_dataset_without_len_needs_max_steps():
    with pytest.raises(ValueError, match="max_steps"):
        train(Masked(), max_steps=None)


def test_a_bad_batch_leaves_the_model_whole():
    class Turns:
        def batch(self, step, micro):
            ids = np.full((1, 4), 64 if step == 2 else step)
            return ids, ids

    model = loopos.Model(CONFIG)
    with pytest.raises(IndexError, match=r"data.batch\(2, 0\): ids\[0, 0\] = 64"):
        loopos.train(model, Turns(), max_steps=5, progress=False, lr_schedule="constant")
    other = loopos.Model(CONFIG)
    loopos.train(other, Turns(), max_steps=2, progress=False, lr_schedule="constant")
    assert bits(model) == bits(other)


# The output folder


def test_an_output_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    model = loopos.Model(CONFIG)
    before = bits(model)
    with pytest.raises(OSError, match="file"):
        loopos.train(model, IDS, output_dir=tmp_path / "file" / "run", max_steps=2, progress=False)
    assert bits(model) == before


def test_a_second_live_process_is_refused_at_once(tmp_path):
    code = (
        "import sys, numpy as np, loopos\n"
        "c = loopos.ModelConfig(64, 8, 1, 2, 8)\n"
        "try: loopos.train(c, np.arange(200) % 64, output_dir=sys.argv[1], max_steps=1, progress=False)\n"
        "except OSError as error: print('refused:', error)\n"
    )
    said = []

    class Second:
        def on_step_end(self, info):
            run = subprocess.run(
                [sys.executable, "-c", code, tmp_path / "run"],
                capture_output=True,
                text=True,
                timeout=60,
                cwd=os.path.dirname(os.path.dirname(loopos.__file__)),
            )
            said.append(run.stdout + run.stderr)
            return True

    train(output_dir=tmp_path / "run", callbacks=[Second()])
    assert said[0].startswith("refused:")
    assert "another live" in said[0]
    with pytest.warns(UserWarning, match="another run"):
        assert train(output_dir=tmp_path / "run").step == 2  # and after its end it is free


@pytest.mark.parametrize("name", ["batch_size", "grad_accum"])
@pytest.mark.parametrize("value", [10**11, 10**12, 2**62])
@pytest.mark.parametrize("built", [True, False])
def test_an_update_beyond_memory_is_refused_before_any_output(tmp_path, name, value, built):
    model = loopos.Model(CONFIG) if built else CONFIG
    with pytest.raises(MemoryError, match=rf"{name} {value}.* needs at least [0-9]+ bytes"):
        loopos.train(model, IDS, output_dir=tmp_path / "run", max_steps=1, progress=False, **{name: value})
    assert not (tmp_path / "run").exists()


def test_the_workspace_of_a_model_to_be_built_counts(monkeypatch):
    from loopos.run import updates

    shape, config = (4, 8, 2), loopos.ModelConfig(64, 8, 3, 2, 8)
    batches, kept = 4 * 8 * 2 * 16, 8 * 4 * 3 * (6 * 8 + 2 * config.d_ff)
    for model, needed in ((config, batches + kept), (loopos.Model(config), batches)):
        monkeypatch.setattr(updates._core, "available_bytes", lambda needed=needed: float(needed))
        updates.refuse_oversized(model, *shape)
        monkeypatch.setattr(updates._core, "available_bytes", lambda needed=needed: float(needed - 1))
        with pytest.raises(MemoryError, match=f"at least {needed} bytes"):
            updates.refuse_oversized(model, *shape)


@pytest.mark.parametrize("value", [None, 1, "no", []])
def test_progress_is_true_or_false(value):
    with pytest.raises(TypeError, match="progress must be True or False"):
        train(progress=value)
