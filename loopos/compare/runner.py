"""A comparison: its plan, its trials one after another, and what they came to. The same call goes on after a kill."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loopos import checks
from loopos.build_info import __version__
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.checkpoint_folder import NAME as CHECKPOINT

from . import rates, tasks
from .summary import Summary, summarise
from .task import Task
from .trial import CRASHED, ENDED, OUTCOME, TRIAL, Outcome, Trial

PLAN, TRIALS = "comparison.json", "trials"
SEED = 1337
SHARE = 0.2  # of the updates of a trial, those of a sweep's
LEAST = 20  # updates of a sweep's trial


@dataclass
class Comparison:
    """What is compared, and where. rates: those that are given, by optimizer; sweep: look for the others, else they are
    the usual ones. tell: is called with a sentence for each trial.

    ValueError and TypeError for arguments, ValueError where the folder has another comparison."""

    task: Task
    optimizers: Sequence[str]
    output_dir: str | os.PathLike
    seeds: int = 3
    rates: Mapping[str, float] = field(default_factory=dict)
    sweep: bool = True
    sweep_share: float = SHARE
    tell: Callable[[str], Any] = lambda sentence: None

    def __post_init__(self) -> None:
        self.optimizers = rates.named(list(self.optimizers))
        checks.count("compare", "seeds", self.seeds, high=1000)
        checks.real("compare", "sweep_share", self.sweep_share, above=0, high=1)
        self.folder = Path(self.output_dir)
        self.steps = self.task.steps()

    def plan(self) -> dict[str, Any]:
        """What is done, as written before it begins."""
        names = ("optimizers", "seeds", "rates", "sweep", "sweep_share", "steps")
        grids = {name: rates.grid(name) for name in self._swept()}
        own = {name: getattr(self, name) for name in names} | {"grids": grids, "first_seed": SEED}
        return {"loopos": __version__, "task": tasks.saved(self.task)} | own

    def run(self) -> Summary:
        """All trials that are not done, then the summary of all. OSError where the folder cannot be written."""
        self._begin()
        chosen = {name: self._choose(name) for name in self.optimizers}
        for seed in range(SEED, SEED + self.seeds):  # all optimizers of a seed, then the next: comparable early
            for name, (rate, _, _) in chosen.items():
                if rate is not None:
                    self._outcome(Trial(name, rate, seed, self.steps))
        return self.summary(chosen)

    def summary(self, chosen: Mapping[str, tuple[float | None, str, dict[float, Outcome]]]) -> Summary:
        trials = {}
        for name, (rate, _, swept) in chosen.items():
            for seed in range(SEED, SEED + self.seeds if rate is not None else SEED):
                trial = Trial(name, rate, seed, self.steps)
                trials[trial] = self._done(trial) or Outcome(CRASHED, 0, said="it left no outcome")
            for tried, outcome in swept.items():
                trials[self._sweeping(name, tried)] = outcome
        said = {name: (rate, how) for name, (rate, how, _) in chosen.items()}
        return summarise(self.task, said, trials, self.folder / TRIALS)

    def _swept(self) -> list[str]:
        return [name for name in self.optimizers if self.sweep and name not in self.rates]

    def _begin(self) -> None:
        plan, path = self.plan(), self.folder / PLAN
        durable.make_folder(self.folder)
        try:
            found = durable.load_json(path)
        except FileNotFoundError:
            found = plan
        same = ("task", "steps", "sweep_share")  # optimizers, seeds and rates may be added or left out
        if not isinstance(found, dict) or any(found.get(name) != plan[name] for name in same):
            differs = [name for name in same if not isinstance(found, dict) or found.get(name) != plan[name]]
            raise ValueError(
                f"compare: {self.folder} holds another comparison: it differs in {_differences(found, plan, differs)}; "
                "give another output_dir, or the same command as then"
            )
        durable.write_json(path, plan)

    def _sweeping(self, optimizer: str, rate: float) -> Trial:
        steps = min(self.steps, max(LEAST, math.ceil(self.steps * self.sweep_share)))
        return Trial(optimizer, rate, SEED, steps, sweep=True)

    def _choose(self, name: str) -> tuple[float | None, str, dict[float, Outcome]]:
        """(the rate of an optimizer, where it comes from, what the sweep found); no rate where none stayed finite."""
        if name in self.rates:
            return self.rates[name], "given", {}
        if not self.sweep:
            return rates.USUAL[name], "usual", {}
        found = {rate: self._outcome(self._sweeping(name, rate)) for rate in rates.grid(name)}
        losses = {rate: outcome.eval_loss for rate, outcome in found.items()}
        extended = 0
        while (rate := rates.beyond(losses)) is not None and extended < rates.EXTENSIONS:
            found[rate] = self._outcome(self._sweeping(name, rate))
            losses[rate], extended = found[rate].eval_loss, extended + 1
        alike, edge = rates.alike(losses), rates.beyond(losses) is not None
        how = f"sweep of {len(found)}" + (f", {extended} beyond the first grid" if extended else "")
        how += ", the best at its edge" if edge and alike else ""
        how += f", the lowest of {len(alike)} within {rates.ALIKE:.0%}" if len(alike) > 1 else ""
        return (alike[0] if alike else None), how, found

    def _done(self, trial: Trial) -> Outcome | None:
        folder = self.folder / TRIALS / trial.name
        return Outcome.read(folder) if self._asked(folder) == self._asking(trial) else None

    def _asking(self, trial: Trial) -> dict[str, Any]:
        return {"task": tasks.saved(self.task), "trial": asdict(trial)}

    def _asked(self, folder: Path) -> Any:
        try:
            return durable.load_json(folder / TRIAL)
        except (OSError, CheckpointError):
            return None

    def _outcome(self, trial: Trial) -> Outcome:
        found = self._done(trial)
        if found is not None and found.status != CRASHED:
            self.tell(f"{trial.name}: kept, {_in_words(found)}")
            return found
        folder = self.folder / TRIALS / trial.name
        if self._asked(folder) != self._asking(trial) and folder.exists():
            shutil.rmtree(folder)  # of another length: nothing of it can be gone on from
        durable.make_folder(folder)
        durable.write_json(folder / TRIAL, self._asking(trial))
        began_anew = not any(CHECKPOINT.fullmatch(path.name) for path in folder.iterdir())
        outcome = self._attempt(folder)
        if outcome.status == CRASHED and not began_anew:  # perhaps by what it went on from
            shutil.rmtree(folder)
            durable.make_folder(folder)
            durable.write_json(folder / TRIAL, self._asking(trial))
            outcome = self._attempt(folder)
        if trial.sweep and outcome.status != CRASHED:
            for path in folder.iterdir():
                if CHECKPOINT.fullmatch(path.name):
                    shutil.rmtree(path)  # a rate was chosen by it; nobody goes on from it
        self.tell(f"{trial.name}: {_in_words(outcome)}")
        return outcome

    def _attempt(self, folder: Path) -> Outcome:
        """Let a process of its own do the trial; it is stopped when this one is."""
        (folder / OUTCOME).unlink(missing_ok=True)
        command = [sys.executable, "-m", "loopos.compare.worker", str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, **pipes) as process:
            try:
                assert process.stderr is not None
                words = process.stderr.read().decode("utf-8", "replace")
                code = process.wait()
            except BaseException:
                process.terminate()  # it keeps a checkpoint
                process.wait()
                raise
        if code == 130:
            raise KeyboardInterrupt
        found = Outcome.read(folder)
        if found is None:
            last = " ".join(words.split()[-60:])
            found = Outcome(CRASHED, 0, said=f"the process ended with code {code}" + (f": {last}" if last else ""))
            found.write(folder)
        return found


def _differences(found: Any, plan: Mapping[str, Any], names: Sequence[str]) -> str:
    told = []
    for name in names:
        then, now = found.get(name) if isinstance(found, dict) else None, plan[name]
        if isinstance(then, dict) and isinstance(now, dict):
            keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
            told += [f"{key} ({checks.shown(then.get(key))} then, {checks.shown(now.get(key))} now)" for key in keys]
        else:
            told.append(f"{name} ({checks.shown(then)} then, {checks.shown(now)} now)")
    return ", ".join(told)


def _in_words(outcome: Outcome) -> str:
    if outcome.status == CRASHED:
        return f"crashed: {outcome.said}"
    if outcome.status == ENDED:
        return f"ended after {outcome.steps} updates: {outcome.said}"
    loss = "not finite" if outcome.eval_loss is None else f"{outcome.eval_loss:.4f}"
    return f"{outcome.steps} updates, held-out loss {loss}, {outcome.seconds:.1f} s"
