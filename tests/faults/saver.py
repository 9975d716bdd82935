"""A program that saves checkpoints and is hurt while it does: ``python saver.py '{"mode": ...}'`` (see main).

It forks a child per attempt, so that one start of Python serves all. The tests also load this file for :func:`content`.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import sys

import numpy as np
import safetensors.numpy  # noqa: F401  (before the fork: its import must not count as calls of a save)

from loopos.run.checkpoint import CheckpointStore

# What each scenario finds and what it saves, as (step, variant); every store keeps two.
SCENARIOS = {
    "append": ([(10, 0), (20, 0)], (30, 0)),
    "replace": ([(20, 0)], (20, 1)),
    "first": ([], (10, 0)),
    "branch": ([(10, 0), (20, 0)], (15, 1)),
}
CALLS = ("open", "mkdir", "write", "fsync", "rename", "unlink", "rmdir")


def content(step: int, variant: int) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and state that only this step and variant have."""
    rng = np.random.default_rng([step, variant])
    arrays = {
        "tok_embed.weight": rng.standard_normal((40, 32)).astype(np.float32),
        "blocks.0.norm.weight": rng.standard_normal(7),
        "optimizer.exp_avg.tok_embed.weight": rng.standard_normal((40, 32)).astype(np.float32),
    }
    return arrays, {"variant": variant, "rate": float(rng.standard_normal()), "name": "ä"}


def save(folder: str, step: int, variant: int) -> None:
    with CheckpointStore(folder, keep=2) as store:
        store.save(step, *content(step, variant))


class Disk:
    """Counts the calls that change or open files; at call ``when`` the process dies, half of a write done.

    power "data": files that were not synced lose their bytes. "names": what was created or renamed in a folder that was
    not synced is undone too.
    """

    def __init__(self, when: int, power: str):
        self.when, self.power, self.calls = when, power, 0
        self.dirty: set[int] = set()  # inodes
        # (inode of the folder, name in it, former name or None if created): not yet synced
        self.names: list[tuple[int, str, str | None]] = []
        self.real = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            setattr(os, name, lambda *args, _name=name, **options: self.call(_name, *args, **options))

    def call(self, name, *args, **options):
        self.calls += 1
        if self.calls == self.when:
            if name == "write":
                self.real["write"](args[0], args[1][: len(args[1]) // 2])
            self.die()
        result = self.real[name](*args, **options)
        if name == "fsync":
            synced = os.fstat(args[0]).st_ino
            self.dirty.discard(synced)
            self.names = [entry for entry in self.names if entry[0] != synced]
        elif name in ("mkdir", "rename") or (name == "open" and args[1] & os.O_CREAT):
            path = str(args[-1] if name == "rename" else args[0])
            source = os.path.basename(args[0]) if name == "rename" else None
            self.names.append((os.stat(os.path.dirname(path)).st_ino, os.path.basename(path), source))
            if name == "open":
                self.dirty.add(os.fstat(result).st_ino)
        return result

    def die(self):
        self.cut_power()
        os.kill(os.getpid(), signal.SIGKILL)

    def cut_power(self):
        """Leave of the run folder what was synced."""
        for name, function in self.real.items():
            setattr(os, name, function)
        if self.power == "names":
            for folder, name, source in reversed(self.names):
                for top in [top for top, _, _ in os.walk(RUN) if os.stat(top).st_ino == folder]:
                    path = os.path.join(top, name)
                    if source is not None and os.path.lexists(path):
                        os.rename(path, os.path.join(top, source))
                    elif os.path.isdir(path):
                        shutil.rmtree(path)
                    elif os.path.lexists(path):
                        os.unlink(path)
        if self.power:
            for top, _, names in os.walk(RUN):
                for name in names:
                    if os.stat(os.path.join(top, name)).st_ino in self.dirty:
                        os.truncate(os.path.join(top, name), 0)


def burn(syscall: str, count: int) -> None:
    """Make ``count`` such calls without effect, so that strace's fixed ordinal falls on a later call of the save."""
    null = os.open("/dev/null", os.O_WRONLY)
    calls = {
        "mkdir": lambda: os.mkdir("/nonexistent/a"),
        "write": lambda: os.write(null, b"x"),
        "fsync": lambda: os.fsync(null),
        "rename": lambda: os.rename("/nonexistent/a", "/nonexistent/b"),
        "unlinkat": lambda: os.unlink("a", dir_fd=null),
    }
    for _ in range(count):
        with contextlib.suppress(OSError):
            calls[syscall]()
    os.close(null)


def attempt(job: dict, folder: str, ordinal: int, step: int, variant: int) -> dict:
    """One save in a child; how the child ended."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        global RUN
        RUN = folder
        told = b""
        try:
            if job["mode"] == "disk":
                disk = Disk(ordinal, job["power"])
            elif job["mode"] == "strace":
                burn(job["syscall"], job["when"] - ordinal)
            elif job["mode"] == "limit":
                resource.setrlimit(resource.RLIMIT_FSIZE, (job["bytes"], job["bytes"]))
            save(folder, step, variant)
            if job["mode"] == "disk":
                disk.cut_power()  # what save returned from must hold
        except OSError as error:
            told = json.dumps({"errno": error.errno, "filename": error.filename, "text": str(error)}).encode()
        os.writev(write, [told or b"{}"])  # not os.write, which is what may be counted
        os._exit(0)
    os.close(write)
    status = os.waitpid(pid, 0)[1]
    told = os.read(read, 1 << 16)
    os.close(read)
    return {"killed": os.WIFSIGNALED(status), **json.loads(told or b"{}")}


def main() -> None:
    """folders: one prepared per attempt; step, variant: what to save. Prints the results up to the first survivor."""
    job = json.loads(sys.argv[1])
    results = []
    for ordinal, folder in enumerate(job["folders"], start=1):
        results.append(attempt(job, folder, ordinal, job["step"], job["variant"]))
        if not results[-1]["killed"]:
            break
    os.writev(1, [json.dumps(results).encode()])


if __name__ == "__main__":
    main()
