"""What train calls while it runs: the protocol for callbacks, and the progress bar, which is one.

Callbacks see the run; they cannot change its bits. Each hook gets one dict, ``info``, with at least

    step   updates done            model  the Model being trained

    on_train_begin  + max_steps (updates of the whole run), output_dir
    on_step_end     + the numbers of the step: loss, grad_norm, learning_rate, epoch, tokens_per_second, valid_tokens,
                      nonfinite. Also called for a step whose update was refused. A true result stops after this step.
    on_evaluate     + eval_loss
    on_alarm        + name, value, expected, sentence of a number of the step that is implausible (a call for each; the
                      next of its kind only after the number was back where it belongs). Nothing else depends on it.
    on_log          + the numbers of the step, and eval_loss where there is one: the entry of the history
    on_save         + path, the checkpoint's folder
    on_train_end    + history, stopped ("error" when an exception ends the run); always called
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from loopos import checks

HOOKS = ("on_train_begin", "on_step_end", "on_alarm", "on_log", "on_evaluate", "on_save", "on_train_end")
_INTERVAL = 0.1  # seconds between two texts of the bar: tqdm draws no oftener


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
    """A tqdm bar on stderr: steps, time gone and left, loss, gradient norm, learning rate, tokens per second; and a
    line for each alarm."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown: dict[str, str] = {}
        self._latest: dict[str, Any] | None = None  # a step that is not shown yet
        self._due = 0.0  # when the next one is to be

    def on_train_begin(self, info: dict[str, Any]) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=info["max_steps"], initial=info["step"], desc="train", unit="step", dynamic_ncols=True)

    def on_step_end(self, info: dict[str, Any]) -> None:
        self._latest = info
        if time.monotonic() >= self._due:
            self._show()

    def _show(self) -> None:
        info, self._latest = self._latest, None
        if info is None:
            return
        self._due = time.monotonic() + _INTERVAL
        self._shown |= {
            "loss": f"{info['loss']:.4f}",
            "grad_norm": f"{info['grad_norm']:.3g}",
            "lr": f"{info['learning_rate']:.2e}",
            "tok/s": f"{info['tokens_per_second']:,.0f}",
        }
        if info["nonfinite"]:
            self._shown["refused"] = str(info["nonfinite"])
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(info["step"] - self._bar.n)

    def on_evaluate(self, info: dict[str, Any]) -> None:
        self._show()
        self._shown["eval_loss"] = f"{info['eval_loss']:.4f}"
        self._bar.set_postfix(self._shown)

    def on_alarm(self, info: dict[str, Any]) -> None:
        self._bar.write(f"step {info['step']}: {info['sentence']}", file=sys.stderr)

    def on_train_end(self, info: dict[str, Any]) -> None:
        if self._bar is not None:
            self._show()
            self._bar.close()
