"""TensorBoard's event files, read back as TensorBoard reads them."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

import loopos
from loopos.cli import main

pytest.importorskip("tensorboardX", reason="needs the extra [track]")

CONFIG = loopos.ModelConfig(256, 16, 1, 2, 16)
TEXT = "to be or not to be. " * 30


def events(folder):
    """Of all event files, in their order."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(Path(folder).glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length


def curve(folder, tag):
    """[(step, value)] as TensorBoard shows it: a session that starts at a step voids what was logged from there on."""
    shown = []
    for event in events(folder):
        if event.HasField("session_log"):
            shown = [(step, value) for step, value in shown if step < event.step]
        shown += [(event.step, value.simple_value) for value in event.summary.value if value.tag == tag]
    return shown


def texts(folder):
    return {
        v.tag: v.tensor.string_val[0].decode() for e in events(folder) for v in e.summary.value if v.tensor.string_val
    }


def train(folder, *others, **options):
    options = {"max_steps": 8, "log_every": 1, "progress": False} | options
    return loopos.train(CONFIG, TEXT, callbacks=[loopos.callbacks.TensorBoard(folder), *others], **options)


def test_the_history_and_the_settings_are_there(tmp_path):
    result = train(tmp_path, eval_data=TEXT, eval_every=4)
    for tag, name in (("train/loss", "loss"), ("train/grad_norm", "grad_norm"), ("eval/loss", "eval_loss")):
        wanted = [(entry["step"], pytest.approx(entry[name], rel=1e-6)) for entry in result.history if name in entry]
        assert curve(tmp_path, tag) == wanted
    assert '"d_model": 16' in texts(tmp_path)["config/text_summary"]


def test_a_run_that_was_cut_off_and_resumed_has_each_step_once(tmp_path):
    class Broken:
        def on_step_end(self, info):
            if info["step"] == 6:
                raise RuntimeError("power cut")

    whole = train(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "tb", Broken(), save_every=4, output_dir=tmp_path / "run")
    assert [step for step, _ in curve(tmp_path / "tb", "train/loss")] == [1, 2, 3, 4, 5]
    train(tmp_path / "tb", output_dir=tmp_path / "run", resume="auto")
    assert len(list((tmp_path / "tb").iterdir())) == 2
    assert curve(tmp_path / "tb", "train/loss") == curve(tmp_path / "whole", "train/loss")
    assert len(whole.history) == 8


def test_the_flag_of_the_command_line(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT)
    small = ["--n-layer", "1", "--d-model", "16", "--n-head", "2", "--context-length", "16", "--max-steps", "2"]
    arguments = ["train", str(tmp_path / "text.txt"), *small, "--sample", "0", "--no-progress"]
    assert main([*arguments, "--tensorboard", str(tmp_path / "tb")]) == 0
    assert [step for step, _ in curve(tmp_path / "tb", "train/loss")] == [1, 2]
    assert main([*arguments, "--tensorboard", ""]) == 2
    assert "tensorboard must be the name of a file or folder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="TensorBoard: nothing more is logged"):
        result = train(tmp_path / "file" / "below")
    assert result.step == 8


def test_without_the_package_the_extra_is_named():
    code = "import sys; sys.modules['tensorboardX'] = None\nimport loopos; loopos.callbacks.TensorBoard('x')"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=Path(loopos.__file__).parents[1]
    )
    assert "ImportError: TensorBoard needs the package tensorboardX: pip install 'loopos[track]'" in run.stderr
