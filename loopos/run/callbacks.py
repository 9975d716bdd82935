"""What train calls while it runs: the protocol for callbacks, and the progress bar, which is one.

Callbacks see the run; they cannot change its bits. Each hook gets one dict, ``info``, with at least

    step   updates done            model  the Model being trained

    on_train_begin  + max_steps (updates of the whole run), output_dir, settings (of train, a dict safe for JSON),
                    audit (LabelAudit of examples, else None), forecast (a function that makes a few passes and
                    gives the Forecast of run/forecast.py: what the run will take)
    on_step_end     + the numbers of the step: loss, grad_norm, learning_rate, epoch, tokens_per_second, valid_tokens,
                      nonfinite; and batches, its micro-batches as arrays: (ids, targets), or with documents or images.
                      Also called for a step whose update was refused. A true result stops after this step.
    on_evaluate     + eval_loss, eval_tokens (targets scored), eval_share (of eval_data), eval_seconds
    on_alarm        + name, value, expected, sentence of a number of the step that is implausible (a call for each; the
                      next of its kind only after the number was back where it belongs). Nothing else depends on it.
    on_log          + the numbers of the step, and eval_loss where there is one: the entry of the history
    on_save         + path, the checkpoint's folder
    on_train_end    + history, stopped ("error" when an exception ends the run); always called
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from loopos import checks

from .messages import Output
from .metrics import as_logged

HOOKS = ("on_train_begin", "on_step_end", "on_alarm", "on_log", "on_evaluate", "on_save", "on_train_end")
_INTERVAL = 0.1  # seconds between two texts of the bar: tqdm draws no oftener
_LINE_INTERVAL = 5.0  # between two lines where there is no terminal; of a long run a hundredth, up to a minute


class Callback:
    """A base class with every hook, doing nothing. Any object with some of these methods will do as well."""

    def on_train_begin(self, info: dict[str, Any]) -> None: ...

    def on_step_end(self, info: dict[str, Any]) -> bool | None: ...

    def on_alarm(self, info: dict[str, Any]) -> None: ...

    def on_log(self, info: dict[str, Any]) -> None: ...

    def on_evaluate(self, info: dict[str, Any]) -> None: ...

    def on_save(self, info: dict[str, Any]) -> None: ...

    def on_train_end(self, info: dict[str, Any]) -> None: ...


class Hooks:
    """All callbacks as one, called in the order given. What they raise ends the run."""

    def __init__(self, callbacks: Iterable[Any], *, progress: bool = False):
        """progress: show a ProgressBar too. An object with none of the hooks: TypeError, because a hook misspelt would
        never be called."""
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"train: callbacks must be a sequence of objects, got {checks.shown(callbacks)}")
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            if isinstance(callback, type) or not any(callable(getattr(callback, hook, None)) for hook in HOOKS):
                raise TypeError(
                    f"train: a callback must be an object with at least one of {', '.join(HOOKS)}, "
                    f"got {checks.shown(callback)}"
                )
        if progress:
            self._callbacks.append(ProgressBar())

    def call(self, hook: str, info: dict[str, Any]) -> bool:
        """Call ``hook`` of each that has it, each with a dict of its own; True when any result is true."""
        if not self._callbacks:
            return False
        results = [getattr(each, hook)(dict(info)) for each in self._callbacks if callable(getattr(each, hook, None))]
        return any(bool(result) for result in results)


class ProgressBar(Callback):
    """On stderr: steps, time gone and left, loss, gradient norm, learning rate, tokens per second; a line for each
    alarm, and one on what an evaluation costs. On a terminal a tqdm bar; elsewhere (a file, a pipe, the log of a job) a
    line every few seconds; nothing where there is no stderr."""

    def __init__(self) -> None:
        self._bar: Any = None  # on a terminal
        self._output: Output | None = None
        self._total = self._first = 0
        self._began = 0.0
        self._shown: dict[str, str] = {}
        self._latest: dict[str, Any] | None = None  # the latest step
        self._waiting = False  # there is something that was not shown yet
        self._due = 0.0  # when the next one is to be
        self._priced = False  # what an evaluation costs has been said

    def on_train_begin(self, info: dict[str, Any]) -> None:
        self._output, self._began = Output(), time.monotonic()
        self._total, self._first = info["max_steps"], info["step"]
        if self._output.isatty():
            from tqdm import tqdm

            bar = {"desc": "train", "unit": "step", "dynamic_ncols": True, "file": self._output}
            self._bar = tqdm(total=self._total, initial=self._first, **bar)

    def on_step_end(self, info: dict[str, Any]) -> None:
        self._latest, self._waiting = info, True
        if time.monotonic() >= self._due:
            self._show()

    def _show(self) -> None:
        info, waiting, self._waiting = self._latest, self._waiting, False
        if info is None or not waiting:
            return
        now = time.monotonic()
        scored = as_logged(info)
        self._shown |= {
            "loss": f"{scored['loss']:.4f}" if "loss" in scored else "none (no target)",
            "grad_norm": f"{scored['grad_norm']:.3g}" if "grad_norm" in scored else "none",
            "lr": f"{info['learning_rate']:.2e}",
            "tok/s": f"{info['tokens_per_second']:,.0f}",
        }
        if info["nonfinite"]:
            self._shown["refused"] = str(info["nonfinite"])
        if self._bar is not None:
            self._due = now + _INTERVAL
            self._bar.set_postfix(self._shown, refresh=False)
            self._bar.update(info["step"] - self._bar.n)
        elif self._output:
            gone = now - self._began
            self._due = now + min(max(_LINE_INTERVAL, gone / 100), 60)
            self._say(self._line(info["step"], gone))

    def _line(self, step: int, gone: float) -> str:
        from tqdm import tqdm

        numbers = ", ".join(f"{name}={value}" for name, value in self._shown.items())
        form = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
        about = {"prefix": "train", "unit": "step", "postfix": numbers, "initial": self._first, "bar_format": form}
        return str(tqdm.format_meter(step, self._total, gone, **about))

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=self._output)
        elif self._output is not None:
            self._output.write(text + "\n")
            self._output.flush()

    def on_evaluate(self, info: dict[str, Any]) -> None:
        self._shown["eval_loss"], self._waiting = f"{info['eval_loss']:.4f}", True
        if not self._priced:
            self._priced = True
            part = f", {info['eval_share']:.2g} of eval_data" if info["eval_share"] < 1 else ""
            self._say(f"evaluation: {info['eval_tokens']:,} tokens{part}, {info['eval_seconds']:.1f} s each")
        if self._bar is not None:
            self._show()
            self._bar.set_postfix(self._shown)

    def on_alarm(self, info: dict[str, Any]) -> None:
        self._say(f"step {info['step']}: {info['sentence']}")

    def on_train_end(self, info: dict[str, Any]) -> None:
        self._show()
        if self._bar is not None:
            self._bar.close()
