"""Going on from a checkpoint: bit for bit, or not at all."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos.files.run_folder import load_checkpoint
from loopos.run.resume import Identity
from loopos.run.settings import TrainSettings

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=8, n_layer=2, n_head=2, d_model=16, dropout=0.2)
TEXT = b"she sells sea shells by the sea shore, and so on. " * 8
SETTINGS = {"batch_size": 3, "grad_accum": 2, "learning_rate": 1e-2, "warmup_steps": 3, "progress": False}


def train(model=CONFIG, data=TEXT, **kwargs):
    return loopos.train(model, data, **(SETTINGS | {"max_steps": 12} | kwargs))


def bits(model):
    return b"".join(view.tobytes() for view in model.parameters().values())


@pytest.fixture
def halfway(tmp_path, stop_after):
    """A run of 12 updates that was stopped after 6."""
    train(output_dir=tmp_path / "run", callbacks=[stop_after(6)])
    return tmp_path / "run"


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_n_and_n_equal_two_n_bit_for_bit(tmp_path, optimizer, dtype, thread_count, stop_after):
    settings = {"optimizer": optimizer, "log_every": 1}
    whole = train(loopos.Model(CONFIG, dtype=dtype), **settings)
    for stop in (1, 5, 11):
        folder = tmp_path / f"run{stop}"
        thread_count(1)
        train(loopos.Model(CONFIG, dtype=dtype), output_dir=folder, callbacks=[stop_after(stop)], **settings)
        thread_count(3)
        rest = train(loopos.Model(CONFIG, seed=9, dtype=dtype), output_dir=folder, resume="auto", **settings)
        assert bits(rest.model) == bits(whole.model)
        assert [line["loss"] for line in rest.history] == [line["loss"] for line in whole.history[stop:]]


def test_a_new_process_goes_on_bit_for_bit(halfway):
    code = (
        "import sys, loopos\n"
        f"settings = {SETTINGS | {'max_steps': 12, 'resume': 'auto'}!r}\n"
        f"result = loopos.train(loopos.{CONFIG!r}, {TEXT!r}, output_dir=sys.argv[1], **settings)\n"
        "sys.stdout.buffer.write(b''.join(v.tobytes() for v in result.model.parameters().values()))\n"
    )
    folder = os.path.dirname(os.path.dirname(loopos.__file__))
    run = subprocess.run([sys.executable, "-c", code, halfway], capture_output=True, timeout=60, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert run.stdout == bits(train().model)


def test_a_model_given_takes_the_weights_of_the_checkpoint(halfway):
    model = loopos.Model(CONFIG, seed=5)
    result = train(model, resume=halfway, output_dir=halfway)
    assert result.model is model
    assert bits(model) == bits(train().model)


def test_a_folder_and_one_checkpoint_of_it(tmp_path):
    train(output_dir=tmp_path / "run", save_every=4)
    whole = bits(train().model)
    assert sorted(p.name for p in (tmp_path / "run").glob("step-*")) == [f"step-{n:08d}" for n in (4, 8, 12)]
    middle = tmp_path / "run/step-00000004"
    assert bits(train(resume=middle).model) == whole
    assert bits(train(resume=str(middle), output_dir=tmp_path / "other").model) == whole
    assert sorted(p.name for p in (tmp_path / "other").glob("step-*")) == ["step-00000012"]


def test_auto_without_a_checkpoint_starts_anew(tmp_path):
    assert bits(train(output_dir=tmp_path / "run", resume="auto").model) == bits(train().model)


def test_a_finished_run_returns_at_once(tmp_path):
    done = train(output_dir=tmp_path / "run")
    calls = []

    class Count:
        def on_step_end(self, info):
            calls.append(info)

    again = train(output_dir=tmp_path / "run", resume="auto", callbacks=[Count()])
    assert (again.history, again.step, again.stopped, calls) == ([], 12, None, [])
    assert bits(again.model) == bits(done.model)
    assert again.output_dir == tmp_path / "run"
    shorter = train(output_dir=tmp_path / "run", resume="auto", max_steps=5)
    assert (shorter.step, shorter.history) == (12, [])
    copied = train(resume=tmp_path / "run", output_dir=tmp_path / "copy")
    assert copied.history == []
    assert [p.name for p in (tmp_path / "copy").glob("step-*")] == ["step-00000012"]


def test_what_may_differ(halfway):
    result = train(output_dir=halfway, resume="auto", max_steps=8, learning_rate=1e-3, lr_schedule="linear")
    assert result.step == 8
    assert [line["step"] for line in result.history] == [8]
    t = 7
    assert result.history[0]["learning_rate"] == pytest.approx(1e-3 * (1 - (t - 3) / (8 - 3)))


MISMATCHES = {
    "batch_size": ({"batch_size": 4}, "4 here, 3 in the checkpoint"),
    "seq_len": ({"seq_len": 7}, "7 here, 8 in the checkpoint"),
    "grad_accum": ({"grad_accum": 1}, "1 here, 2 in the checkpoint"),
    "seed": ({"seed": 1}, "1 here, 1337 in the checkpoint"),
    "optimizer": ({"optimizer": "adam"}, "'adam' here, 'adamw' in the checkpoint"),
    "length": ({"data": TEXT + b"!"}, f"{len(TEXT) + 1} here, {len(TEXT)} in the checkpoint"),
    "d_ff": ({"model": dataclasses.replace(CONFIG, d_ff=65)}, "65 here, 64 in the checkpoint"),
    "dropout": ({"model": dataclasses.replace(CONFIG, dropout=0.1)}, "0.1 here, 0.2 in the checkpoint"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_another_run_is_refused_with_both_values(name, halfway):
    changed, expected = MISMATCHES[name]
    with pytest.raises(ValueError, match=rf"{name}: {expected}"):
        train(output_dir=halfway, resume="auto", **changed)


def test_a_refusal_leaves_the_model_alone(halfway):
    model = loopos.Model(CONFIG, seed=5)
    before = bits(model)
    with pytest.raises(ValueError, match="seed"):
        train(model, resume=halfway, seed=4)
    with pytest.raises(ValueError, match="float64"):
        train(loopos.Model(CONFIG, dtype="float64"), resume=halfway)
    assert bits(model) == before


def test_other_data_of_the_same_length_are_told(halfway):
    with pytest.warns(UserWarning, match="not their content"):
        train(data=TEXT.replace(b"sea", b"pea"), resume=halfway)


def test_another_tokenizer_is_refused(tmp_path, stop_after):
    train(data=TEXT.decode(), tokenizer="chars", output_dir=tmp_path / "run", callbacks=[stop_after(2)])
    with pytest.raises(ValueError, match="tokenizer"):
        train(data=TEXT.decode(), resume=tmp_path / "run")


def test_arguments_that_cannot_work():
    with pytest.raises(ValueError, match="output_dir"):
        train(resume="auto")
    with pytest.raises(FileNotFoundError):
        train(resume="no/such/folder")
    with pytest.raises(TypeError, match="resume"):
        train(resume=True)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_damage_to_the_newest_goes_on_from_the_one_before(tmp_path, name, stop_after):
    train(output_dir=tmp_path / "run", save_every=4, callbacks=[stop_after(8)])
    damaged = tmp_path / "run/step-00000008" / name
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (tmp_path / "run/metrics.jsonl").write_bytes(b'{"step": 1, "lo')
    with pytest.warns(RuntimeWarning) as seen:
        result = train(output_dir=tmp_path / "run", resume="auto")
    assert any("damaged checkpoint" in str(warning.message) for warning in seen)
    assert bits(result.model) == bits(train().model)


def test_all_damaged_is_an_error(halfway):
    for path in Path(halfway).glob("step-*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(loopos.CheckpointError, match=r"model\.safetensors"):
        train(output_dir=halfway, resume="auto")


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    from loopos.run.checkpoint import CheckpointStore

    with CheckpointStore(tmp_path / "run") as store:
        store.save(3, {"w": np.zeros(2, np.float32)}, {"config": {}})
    with pytest.raises(loopos.CheckpointError, match="dtype"):
        train(resume=tmp_path / "run")


def test_metrics_are_those_of_one_run(halfway):
    from loopos.run.metrics import read_metrics

    train(output_dir=halfway, resume="auto", log_every=4)
    assert [line["step"] for line in read_metrics(halfway / "metrics.jsonl")] == [1, 6, 8, 12]


def test_fields_that_came_after_the_checkpoint_had_their_defaults(halfway):
    saved = load_checkpoint(halfway)
    for name in ("attention_bias", "mlp_bias", "qk_norm", "layer_types", "head_dim"):
        del saved.state["config"][name]
    settings = TrainSettings(**saved.state["settings"])
    found = {"settings": settings, "seq_len": 8, "data": saved.state["data"], "tokenizer": None}
    Identity(config=CONFIG, **found).check(saved)
    with pytest.raises(ValueError, match="the model's mlp_bias: False here, True in the checkpoint"):
        Identity(config=dataclasses.replace(CONFIG, mlp_bias=False), **found).check(saved)
