"""A full disk, an I/O error, a size limit: the error is a sentence with errno and path, and nothing earlier is lost."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import loopos
from loopos.run.checkpoint import CheckpointStore

CALLS = ("open", "mkdir", "write", "fsync", "rename", "close", "unlink", "rmdir")


@pytest.fixture
def failing(monkeypatch):
    """failing(code, first, lasting): the first-th call from now on fails, or all that take space from there on."""

    def arm(code, first, lasting):
        counter = itertools.count(1)
        hit = []

        def wrap(name):
            real = getattr(os, name)

            def call(*args, **options):
                if lasting and name == "open" and not args[1] & os.O_CREAT:
                    return real(*args, **options)
                n = next(counter)
                if n == first or (lasting and n > first):
                    hit.append(name)
                    if name == "close":  # the descriptor is gone even when close reports an error
                        real(*args, **options)
                    raise OSError(code, os.strerror(code))
                return real(*args, **options)

            monkeypatch.setattr(os, name, call)

        for name in ("open", "mkdir", "write", "fsync") if lasting else CALLS:
            wrap(name)
        return hit

    yield arm
    monkeypatch.undo()


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("scenario", ["append", "replace"])
@pytest.mark.parametrize(("code", "lasting"), [(errno.EIO, False), (errno.ENOSPC, True)])
def test_every_call_failing(faults, failing, monkeypatch, scenario, code, lasting):
    """Each call of a save fails in turn, once (EIO) or, those that need space, from there on (ENOSPC)."""
    before, new = faults.scenarios[scenario]
    refused = kept = 0
    for n, folder in enumerate(faults.prepare(scenario, 70), start=1):
        tree = _tree(folder)
        with CheckpointStore(folder, keep=2) as store, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hit = failing(code, n, lasting)
            try:
                store.save(new[0], *faults.saver.content(*new))
                error = None
            except OSError as raised:
                error = raised
            monkeypatch.undo()
            found = store.load_latest()
            if error is not None:
                refused += 1
                assert error.errno == code
                assert str(folder) in str(error.filename)
                assert str(error).startswith(f"[Errno {code}] cannot ")
                # The last sync of the folder may be what failed: then the new one is there, but not promised.
                assert faults.same(found, *before[-1]) or faults.same(found, *new)
                if faults.same(found, *before[-1]):
                    assert _tree(folder) == tree
                assert not list(folder.glob("*.tmp.*"))
            else:
                kept += 1
                assert faults.same(found, *new)
                assert bool(hit) == bool(caught), "an old one that could not be removed is told, and nothing else"
            store.save(new[0], *faults.saver.content(*new))  # the store is usable afterwards
        if not hit:
            break
    assert not hit, "the scenario has more calls than attempts"
    assert refused > 10
    assert kept >= 1


def test_short_writes_are_continued(tmp_path, faults, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: max(1, len(data) // 3)]))
    with CheckpointStore(tmp_path / "run") as store:
        store.save(10, *faults.saver.content(10, 0))
        assert faults.same(store.load_latest(), 10, 0)


def test_a_write_that_writes_nothing_is_an_error(tmp_path, faults, monkeypatch):
    with CheckpointStore(tmp_path / "run") as store:
        monkeypatch.setattr(os, "write", lambda fd, data: 0)
        with pytest.raises(OSError, match="wrote nothing") as caught:
            store.save(10, *faults.saver.content(10, 0))
        assert caught.value.errno == errno.EIO
        assert store.load_latest() is None


@pytest.mark.parametrize("limit", [4096, 5000, 10_000])
def test_file_size_limit(faults, limit):
    folder = faults.prepare("append", 1)[0]
    (result,) = faults.run([folder], 30, 0, mode="limit", bytes=limit)
    if limit == 10_000:
        assert result == {"killed": False}
        assert faults.survivor(folder) == (30, 0)
    else:
        assert (result["killed"], result["errno"]) == (False, errno.EFBIG)
        assert result["filename"].startswith(str(folder))
        assert faults.survivor(folder) == (20, 0)


FULL = """
import errno, os, pathlib, sys
from loopos.run.checkpoint import CheckpointStore
import numpy as np
run = pathlib.Path(sys.argv[1]) / "run"
arrays = {"w": np.arange(9000, dtype=np.float32)}
with CheckpointStore(run) as store:
    store.save(1, arrays, {})
    try:
        store.save(2, arrays, {})
    except OSError as error:
        assert error.errno == errno.ENOSPC and str(run) in error.filename, error
    else:
        raise SystemExit("the disk was not full")
    assert sorted(os.listdir(run)) == [".lock", "step-00000001"], os.listdir(run)
    assert store.load_latest().arrays["w"].tobytes() == arrays["w"].tobytes()
assert os.system(f"mount -o remount,ro {sys.argv[1]}") == 0
assert store.load(run).step == 1
for folder in (run, pathlib.Path(sys.argv[1]) / "other"):
    try:
        CheckpointStore(folder)
    except OSError as error:
        assert error.errno == errno.EROFS and error.filename.startswith(str(folder)), error
    else:
        raise SystemExit("a read-only folder was accepted")
print("done")
"""


def test_full_and_read_only_file_system(tmp_path):
    """A tmpfs of 64 KiB takes one checkpoint, not two; remounted read-only it is refused before the first step."""
    mount = f"mount -t tmpfs -o size=64k none {tmp_path}"
    alone = ["unshare", "-rm", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*alone, mount], capture_output=True).returncode:
        pytest.skip("needs unshare with mounts in a user namespace")
    script = tmp_path.with_suffix(".py")
    script.write_text(FULL)
    command = [*alone, f'{mount} && exec "$0" "$@"', sys.executable, str(script), str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(Path(loopos.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
