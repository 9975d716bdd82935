"""One trial in this process: ``python -m loopos.compare.worker FOLDER``. A process of its own has a peak of memory of
its own, and what ends it ends no other trial. It stops when its standard input ends, which is when its parent does."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from pathlib import Path

from loopos.errors import Birth, NonFiniteError
from loopos.files import durable
from loopos.run.messages import to_stderr

from . import tasks
from .follow import Follow, followed
from .task import Task
from .trial import CRASHED, ENDED, FINISHED, TRIAL, Outcome, Trial


def run(task: Task, trial: Trial, folder: Path) -> Outcome:
    """Train, and note what came of it. What ends a trial other than a number that is not finite is raised."""
    follow, quality, ended, said, bundle = Follow(folder), {}, FINISHED, "", None
    born = ""
    try:
        quality = task.train(trial, folder, follow)
    except NonFiniteError as error:
        ended, born, said = ENDED, in_short(error.birth), str(error.birth)
        bundle = None if error.bundle is None else os.path.relpath(error.bundle, folder)
    about = {"start": follow.start, "quality": quality, "peak_bytes": peak_bytes(), "said": said}
    about |= {"born": born, "bundle": bundle}
    found = followed(folder)
    if ended == ENDED:  # the update that ended it is in no line
        about |= {"eval_loss": None, "nonfinite": found["nonfinite"] + 1}
    return Outcome(status=ended, **found | about)


def in_short(birth: Birth) -> str:
    """A birth without how its cause came about."""
    value = "NaN" if math.isnan(birth.value) else str(birth.value)
    phase = {"forward": "the forward pass", "backward": "the backward pass"}.get(birth.phase, f"the {birth.phase}")
    block = "" if birth.layer is None else f", block {birth.layer}"
    return f"{value} born in {phase}{block}, op {birth.op}: {birth.tensor}{list(birth.index)} ({birth.cause_class})"


def peak_bytes() -> int:
    """The most memory that this process has held: VmHWM, which begins anew with the program, where ru_maxrss of a
    child begins with what its parent held."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not sys.stdin.read(), whose lock an ending interpreter would wait for
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # train keeps a checkpoint then


def main(argv: list[str]) -> int:
    folder = Path(argv[0])
    asked = durable.load_json(folder / TRIAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = run(tasks.opened(asked["task"]), Trial(**asked["trial"]), folder)
    except KeyboardInterrupt:
        return 130
    except (Exception, MemoryError) as error:
        to_stderr(f"{type(error).__name__}: {error}")
        Outcome(CRASHED, 0, said=f"{type(error).__name__}: {error}").write(folder)
        return 1
    outcome.write(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
