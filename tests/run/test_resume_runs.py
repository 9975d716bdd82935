"""Which run a folder's checkpoints belong to: a run goes on from its own, and tells when its settings have changed."""

import json

import pytest

import loopos
from loopos.run.metrics import read_metrics

CONFIG = loopos.ModelConfig(vocab_size=256, context_length=8, n_layer=1, n_head=2, d_model=8)
TEXT = b"she sells sea shells by the sea shore, and so on. " * 8
FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]


def train(**kwargs):
    settings = {"batch_size": 3, "max_steps": 8, "lr_schedule": "constant", "progress": False} | kwargs
    return loopos.train(CONFIG, TEXT, **settings)


def bits(model):
    return b"".join(view.tobytes() for view in model.parameters().values())


def run_ids(folder):
    return {json.loads(path.read_bytes())["state"]["run"] for path in folder.glob("step-*/state.json")}


@pytest.fixture
def used(tmp_path):
    """A folder with checkpoints 2 and 3 of a run of another learning rate, and then 4 of a fresh one."""
    folder = tmp_path / "run"
    train(output_dir=folder, max_steps=3, save_every=2, learning_rate=0.5, log_every=1)
    with pytest.warns(UserWarning, match=r"holds checkpoints of another run.*metrics\.jsonl\.old.*resume='auto'"):
        train(output_dir=folder, max_steps=4)
    return folder


def test_the_log_of_the_run_before_is_kept(used):
    assert [line["step"] for line in read_metrics(used / "metrics.jsonl.old")] == [1, 2, 3]
    assert [line["step"] for line in read_metrics(used / "metrics.jsonl")] == [1, 4]
    with pytest.warns(UserWarning, match="another run"):
        train(output_dir=used, max_steps=1)
    assert [line["step"] for line in read_metrics(used / "metrics.jsonl.old")] == [1, 2, 3]
    (second,) = used.glob("metrics.jsonl.old.*")
    assert [line["step"] for line in read_metrics(second)] == [1, 4]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_newest_never_goes_on_from_another_run(used, name):
    assert {path.name for path in used.glob("step-*")} == {f"step-{n:08d}" for n in (2, 3, 4)}
    (used / "step-00000004" / name).write_bytes(b"")
    with pytest.raises(loopos.CheckpointError, match="none of the 1"):
        train(output_dir=used, resume="auto")
    with pytest.raises(loopos.CheckpointError, match="none of the 1"):
        train(resume=used)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_newest_goes_on_from_its_own_run(used, name):
    train(output_dir=used, resume="auto", max_steps=6)
    (used / "step-00000006" / name).unlink()
    with pytest.warns(RuntimeWarning, match="passed over for step-00000004"):
        result = train(output_dir=used, resume="auto")
    assert bits(result.model) == bits(train().model)


def test_an_id_is_new_for_a_run_and_kept_over_a_resume(tmp_path):
    for name in "ab":
        train(output_dir=tmp_path / name, max_steps=2)
    train(output_dir=tmp_path / "a", resume="auto", max_steps=3)
    train(output_dir=tmp_path / "c", resume=tmp_path / "a", max_steps=4)
    first, other, copy = (run_ids(tmp_path / name) for name in "abc")
    assert first == copy
    assert len(first | other) == 2


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("weight_decay", 0.0, r"0\.0 here, 0\.1 in"),
        ("betas", (0.8, 0.95), r"\[0\.8, 0\.95\] .*here, \[0\.9, 0\.95\]"),
        ("eps", 1e-6, "1e-06 here, 1e-08 in"),
        ("max_grad_norm", None, r"None .*here, 1\.0 in"),
    ],
)
def test_a_changed_setting_is_told_with_both_values(tmp_path, name, value, shown):
    train(output_dir=tmp_path / "run", max_steps=2)
    with pytest.warns(UserWarning, match=f"{name} is {shown}"):
        assert train(output_dir=tmp_path / "run", resume="auto", max_steps=3, **{name: value}).step == 3
