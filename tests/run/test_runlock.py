"""One live process at a time; the dead, the forked and the exec'd do not count."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import loopos
from loopos.run.runlock import RunLock

HOLDER = """
import os, subprocess, sys, time
from loopos.run.runlock import RunLock
lock = RunLock(sys.argv[1])
children = [subprocess.Popen(["sleep", "60"], close_fds=False)]
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    assert not lock.held
    os.write(writer, b".")
    time.sleep(60)
    os._exit(0)
os.read(reader, 1)  # a child that has not run yet has not let go of the lock yet
print(pid, children[0].pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """(process that holds the lock, its two children's ids)."""
    env = os.environ | {"PYTHONPATH": str(Path(loopos.__file__).parents[1])}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    yield process, pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path, holder):
    process, children = holder
    with pytest.raises(OSError, match="another live training run is using this folder") as caught:
        RunLock(tmp_path / "lock")
    assert caught.value.errno == errno.EWOULDBLOCK
    assert caught.value.filename == str(tmp_path)
    process.kill()
    process.wait()
    for pid in children:
        os.kill(pid, 0)  # both still live, and neither keeps the lock
    RunLock(tmp_path / "lock").release()


def test_within_one_process(tmp_path):
    lock = RunLock(tmp_path / "lock")
    assert lock.held
    with pytest.raises(BlockingIOError):
        RunLock(tmp_path / "lock")
    lock.release()
    lock.release()
    assert not lock.held
    again = RunLock(tmp_path / "lock")
    del again  # a lock that was dropped is free
    RunLock(tmp_path / "lock").release()


def test_what_the_file_holds_does_not_matter(tmp_path):
    (tmp_path / "lock").write_bytes(b"\x00garbage of a killed process\xff")
    RunLock(tmp_path / "lock").release()


def test_a_lock_whose_name_was_taken_away_is_not_believed(tmp_path, monkeypatch):
    """Between open and flock somebody replaces the file: the lock must be on the one that has the name now."""
    import fcntl

    real, path = fcntl.flock, tmp_path / "lock"
    replaced = []

    def flock(fd, operation):
        if not replaced:
            replaced.append(os.fstat(fd).st_ino)
            os.rename(path, tmp_path / "away")
            path.touch()
        return real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = RunLock(path)
    assert os.fstat(lock._fd).st_ino == path.stat().st_ino != replaced[0]
    lock.release()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="cannot take the lock of the run folder"):
        RunLock(tmp_path / "lock")
    assert not (tmp_path / "target").exists()
