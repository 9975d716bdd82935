"""kill -9 and loss of power at every system call of a save: a valid checkpoint is always there, and the right one."""

import platform
import shutil
import subprocess

import pytest

POINTS = 70  # more than any scenario has; the last attempt must survive


def _check(faults, scenario, folders, results):
    """Every attempt but the last was killed; each leaves what was there or what was being saved, and both do occur."""
    before, new = faults.scenarios[scenario]
    assert all(result["killed"] for result in results[:-1])
    assert results[-1] == {"killed": False}, "the scenario has more calls than POINTS, or the saver failed"
    outcomes = [faults.survivor(folder) for folder in folders[: len(results)]]
    assert set(outcomes) == {before[-1] if before else None, new}
    assert outcomes[-1] == new


@pytest.mark.unsanitized("saves files in processes that die: Python alone")
@pytest.mark.parametrize(
    ("scenario", "power"),
    [
        *(("append", power) for power in ("", "data", "names")),
        *(("replace", power) for power in ("", "names")),
        *(("branch", power) for power in ("data", "names")),
        ("first", "names"),
    ],
)
def test_death_at_every_call(faults, scenario, power):
    folders = faults.prepare(scenario, POINTS)
    results = faults.run(folders, *faults.scenarios[scenario][1], mode="disk", power=power)
    assert len(results) > 15
    _check(faults, scenario, folders, results)


def _strace_works() -> bool:
    if platform.machine() != "x86_64" or shutil.which("strace") is None:
        return False
    probe = ["strace", "-f", "-o", "/dev/null", "-e", "trace=mkdir", "-e", "inject=mkdir:signal=KILL:when=1", "true"]
    return subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.unsanitized("saves files under strace: Python alone")
@pytest.mark.parametrize("scenario", ["append", "replace"])
def test_kill_at_every_syscall(faults, scenario):
    if not _strace_works():
        pytest.skip("needs strace with fault injection on x86-64")
    points = 25
    folders = faults.prepare(scenario, 5 * points)
    killed = 0
    # Not openat, which Python's own start would exhaust: to die there is to die after the call before it.
    for i, syscall in enumerate(("mkdir", "write", "fsync", "rename", "unlinkat")):
        mine = folders[i * points : (i + 1) * points]
        inject = f"inject={syscall}:signal=KILL:when={points}"
        prefix = ("strace", "-f", "-o", "/dev/null", "-e", f"trace={syscall}", "-e", inject)
        results = faults.run(mine, *faults.scenarios[scenario][1], prefix, mode="strace", syscall=syscall, when=points)
        assert not results[-1]["killed"], f"more than {points} calls of {syscall}"
        before, new = faults.scenarios[scenario]
        for folder, result in zip(mine, results, strict=False):
            assert faults.survivor(folder) in ((before[-1], new) if result["killed"] else (new,))
        assert len(results) > 1, f"no {syscall} was hit"
        killed += len(results) - 1
    assert killed >= 15
