"""metrics.jsonl: strict lines, cut back on resume, and never a reason not to resume."""

import errno
import json
import math
import os

import numpy as np
import pytest

from loopos.run.metrics import MetricsLog, read_metrics


def _line(step, **more):
    return json.dumps({"step": step} | more).encode() + b"\n"


def _steps(path):
    return [json.loads(line)["step"] for line in path.read_bytes().splitlines()]


def test_lines_are_strict_json_and_there_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write({"step": 1, "loss": math.nan, "norm": math.inf, "n": {"x": [-math.inf, 1.5]}, "text": "ä\n"})
        assert (
            path.read_bytes()
            == b'{"step": 1, "loss": null, "norm": null, "n": {"x": [null, 1.5]}, "text": "\\u00e4\\n"}\n'
        )
        log.write({"step": np.int64(2), "loss": np.float32(0.1), "bad": np.float64("nan"), "flag": np.True_})
        assert log.note is None
    assert read_metrics(path)[1] == {"step": 2, "loss": float(np.float32(0.1)), "bad": None, "flag": True}
    log.close()
    with pytest.raises(RuntimeError, match="closed"):
        log.write({"step": 3})


@pytest.mark.parametrize("record", [{}, {"loss": 1.0}, {"step": 1.0}, {"step": True}, {"step": None}])
def test_a_record_needs_a_step(tmp_path, record):
    with MetricsLog(tmp_path / "log") as log, pytest.raises(ValueError, match="an integer step"):
        log.write(record)


def test_what_is_no_plain_value_is_refused(tmp_path):
    with MetricsLog(tmp_path / "log") as log, pytest.raises(TypeError, match=r"value\['array'\] is ndarray"):
        log.write({"step": 1, "array": np.zeros(2)})
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.parametrize(("step", "kept"), [(0, []), (20, [10, 20, 20]), (25, [10, 20, 20]), (99, [10, 20, 20, 30])])
def test_resume_cuts_the_log_back(tmp_path, step, kept):
    path = tmp_path / "log"
    with MetricsLog(path) as log:
        for logged in (10, 20, 20, 30):
            log.write({"step": logged})
    inode = path.stat().st_ino
    with MetricsLog(path, step) as log:
        assert log.note is None
        log.write({"step": step + 1})
    assert _steps(path) == [*kept, step + 1]
    assert (path.stat().st_ino == inode) == (step == 99), "an intact log is only appended to"
    assert os.listdir(tmp_path) == ["log"]


@pytest.mark.parametrize(
    "damage",
    [
        b'{"step": 15, "lo',
        b"\x00" * 5000 + b"\n",
        b"\xff\xfe\n",
        b'{"step": 15, "loss": NaN}\n',
        b'{"step": 15, "step": 15}\n',
        b'{"loss": 1}\n',
        b"[15]\n",
        b"\n",
        b"[" * 100_000 + b"\n",
        b"x" * (3 << 20) + b"\n",
        b'{"step": 15}',
    ],
    ids=lambda damage: repr(damage[:20]),
)
@pytest.mark.parametrize("last", [False, True])
def test_damaged_lines_are_dropped(tmp_path, damage, last):
    path = tmp_path / "log"
    if not last and not damage.endswith(b"\n"):
        damage += b"\x00\n"
    path.write_bytes(_line(10) + damage + (b"" if last else _line(20)))
    with MetricsLog(path, 20) as log:
        assert "damaged lines were dropped" in log.note
        log.write({"step": 21})
    assert _steps(path) == ([10, 21] if last else [10, 20, 21])


def test_flipped_bits_and_cuts(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "log"
    sound = b"".join(_line(step, loss=step / 7) for step in range(1, 9))
    for _ in range(60):
        data = bytearray(sound)
        for bit in rng.integers(0, 8 * len(data), 3).tolist():
            data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data[: rng.integers(0, len(data) + 1)])
        with MetricsLog(path, 8) as log:
            log.write({"step": 9})
        steps = [record["step"] for record in read_metrics(path)]
        assert steps == _steps(path)
        assert steps[-1] == 9
        assert max(steps) <= 9


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "unreadable"])
def test_a_log_that_cannot_be_read_is_moved_aside(tmp_path, kind):
    path = tmp_path / "metrics.jsonl"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if kind == "loop" else "/proc/self/mem")
    with MetricsLog(path, 5) as log:
        assert "could not be read and is now metrics.jsonl.unreadable." in log.note
        log.write({"step": 6})
    assert _steps(path) == [6]
    assert len(os.listdir(tmp_path)) == 2


def test_an_io_error_while_reading_is_a_damaged_log(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(_line(1))

    def failing(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", failing)
        log = MetricsLog(path, 5)
    assert "could not be read" in log.note
    log.close()


def test_a_log_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="cannot open the log") as caught:
        MetricsLog(tmp_path / "missing" / "log")
    assert caught.value.filename == str(tmp_path / "missing" / "log")
    with MetricsLog(tmp_path / "log") as log:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, log._fd)
        os.close(full)
        with pytest.raises(OSError, match="cannot write: No space left") as caught:
            log.write({"step": 1})
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "log"))
    with MetricsLog(tmp_path / "log") as log:
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
        log.write({"step": 1, "loss": 2.5})
    assert (tmp_path / "log").read_bytes() == b'{"step": 1, "loss": 2.5}\n'
