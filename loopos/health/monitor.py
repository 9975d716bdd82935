"""A monitor that sits beside a run: plausibility bands, and spikes against the median and MAD of a window.

Medians make it robust: a spike moves neither the centre nor the width it is measured with, and a value that is not
finite is reported and counted but never enters the window, so it can neither blind the monitor nor freeze it. Alarms
are one-sided: a loss that falls is good news. Its state is plain numbers, for a checkpoint. (Median absolute
deviation, with 1.4826 to estimate a standard deviation: Hampel 1974, JASA 69:383.)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WINDOW = 128
FEWEST = 32  # values before spikes are judged
SIGMAS = 6.0
JUMP = 1e3  # a norm this many times its median
SPIKE = 10.0  # a norm at least this many times its median, besides being SIGMAS out
LOSS_TIMES = 10.0  # a loss this many times ln V, or its own median
RATIO_HIGH, RATIO_LOW = 0.1, 1e-8  # of update to weight; 6e-8 is half a unit in the last place of float32
WIDTH_FLOOR = 0.02  # of the median: a window without spread is no reason to alarm at the first change
LOSSES = ("loss", "eval_loss")


@dataclass(frozen=True)
class Finding:
    """name: of the number; value: what came; expected: what would have been plausible; sentence: both, said."""

    step: int
    name: str
    value: float
    expected: str
    sentence: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.sentence}"


class Monitor:
    """Tell it the numbers of each step; it says which are implausible.

    window: values of each number that are remembered. vocab_size: of a language model, so that a loss can be compared
    with ln V; None when the loss is no cross-entropy. ValueError when one of them is out of range."""

    def __init__(self, *, window: int = WINDOW, vocab_size: int | None = None):
        if type(window) is not int or window < FEWEST:
            raise ValueError(f"Monitor: window must be an integer of at least {FEWEST}, got {window!r}")
        if vocab_size is not None and (type(vocab_size) is not int or vocab_size < 2):
            raise ValueError(f"Monitor: vocab_size must be None or an integer of at least 2, got {vocab_size!r}")
        self.window, self.vocab_size = window, vocab_size
        self.nonfinite: dict[str, int] = {}  # how many values of each name were not finite
        self._values: dict[str, list[float]] = {}
        self._lowest: dict[str, float] = {}  # the lowest median of a loss so far
        self._raised: set[str] = set()  # bands that are being left: said once, until it is back

    def observe(self, step: int, **numbers: Any) -> list[Finding]:
        """The implausible ones of a step's numbers.

        Known: loss, eval_loss, grad_norm, and any other name that ends in "norm"; learning_rate; valid_tokens; and
        update_ratio, rms of update over rms of weight, as a number or as a dict by layer (of tensors that do not start
        at 0: those of a zero bias say nothing). Other finite numbers are ignored, None is a value that is not finite.
        TypeError for what is no number."""
        found: list[Finding] = []
        idle = numbers.get("valid_tokens") == 0  # a loss of 0.0 by definition
        rate = numbers.get("learning_rate")
        for name, given in numbers.items():
            parts = {f"{name}[{key}]": v for key, v in given.items()} if isinstance(given, Mapping) else {name: given}
            for label, number in parts.items():
                if isinstance(number, bool) or not (number is None or hasattr(number, "__float__")):
                    raise TypeError(f"Monitor.observe: {label} must be a number, got {type(number).__name__}")
                value = math.nan if number is None else float(number)
                if not math.isfinite(value):
                    self.nonfinite[label] = self.nonfinite.get(label, 0) + 1
                    found.append(_finding(step, label, value, "a finite number", "not finite"))
                elif name in LOSSES and not idle:
                    found += self._loss(step, label, value)
                elif name.endswith("norm") and not idle:
                    found += self._norm(step, label, value)
                elif name == "update_ratio" and rate != 0:
                    found += self._ratio(step, label, value)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts; ``load_state_dict`` goes on from them as if nothing had been between."""
        return {
            "window": self.window,
            "vocab_size": self.vocab_size,
            "nonfinite": dict(self.nonfinite),
            "values": {name: list(values) for name, values in self._values.items()},
            "lowest": dict(self._lowest),
            "raised": sorted(self._raised),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """All or nothing. ValueError when it is not what ``state_dict`` gives."""
        try:
            fresh = Monitor(window=state["window"], vocab_size=state["vocab_size"])
            fresh.nonfinite = {str(name): int(count) for name, count in state["nonfinite"].items()}
            fresh._values = {n: [float(v) for v in values][-fresh.window :] for n, values in state["values"].items()}
            fresh._lowest = {str(name): float(value) for name, value in state["lowest"].items()}
            fresh._raised = {str(name) for name in state["raised"]}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"Monitor.load_state_dict: this is no state of a Monitor: {error!r}") from None
        if not all(math.isfinite(v) for values in (*fresh._values.values(), fresh._lowest.values()) for v in values):
            raise ValueError("Monitor.load_state_dict: a remembered value is not finite")
        self.__dict__.update(fresh.__dict__)

    def _loss(self, step: int, name: str, value: float) -> list[Finding]:
        past = self._values.setdefault(name, [])
        found: list[Finding] = []
        if self.vocab_size is not None:
            uniform = math.log(self.vocab_size)
            said = f"ln {self.vocab_size} = {uniform:.4g} is a uniform guess"
            first = "; the first loss: look at the initialisation and the labels" if not past else ""
            far = 3.0 if not past else LOSS_TIMES
            found += self._band(
                step, name, value, "far above ln V", value > far * uniform, f"near or below {uniform:.4g}", said + first
            )
            found += self._band(
                step, name, value, "negative", value < 0, "at least 0", "a cross-entropy is never negative"
            )
            low = self._lowest.get(name, math.inf)
            lost = low < 0.8 * uniform and len(past) >= 16 and statistics.median(past[-16:]) > uniform
            text = f"it was as low as {low:.4g}, and {said}: what was learned is lost"
            found += self._band(step, name, value, "above ln V again", lost, f"near {low:.4g}", text)
        outside = any(f"{name} {what}" in self._raised for what in ("far above ln V", "negative", "above ln V again"))
        centre, width = self._centre(past) if past else (value, 0.0)
        text = f"{LOSS_TIMES:g} times the median of the last {len(past)}, {centre:.4g}, is passed"
        beyond = not outside and len(past) >= 8 and centre > 0 and value > LOSS_TIMES * max(centre, 1.0)
        found += self._band(step, name, value, "far above its past", beyond, f"near {centre:.4g}", text)
        high = not outside and not beyond and len(past) >= FEWEST
        found += self._spike(step, name, value, centre, centre + SIGMAS * width, high)
        self._remember(past, value)
        if len(past) >= 16:
            self._lowest[name] = min(self._lowest.get(name, math.inf), statistics.median(past[-16:]))
        return found

    def _norm(self, step: int, name: str, value: float) -> list[Finding]:
        """Norms live on a logarithmic scale."""
        past = self._values.setdefault(name, [])
        found: list[Finding] = []
        if value < 0:
            return [_finding(step, name, value, "at least 0", "a norm is never negative")]
        if past and value > 0:
            centre, width = self._centre(past, floor=0.05)
            median, limit = _exp(centre), _exp(centre + max(SIGMAS * width, math.log(SPIKE)))
            beyond = len(past) >= 8 and value > JUMP * median
            text = f"more than {JUMP:g} times the median of the last {len(past)}, {median:.4g}"
            found += self._band(step, name, value, "a jump", beyond, f"near {median:.4g}", text)
            found += self._spike(step, name, value, median, limit, not beyond and len(past) >= FEWEST)
        if value > 0:
            self._remember(past, math.log(value))
        return found

    def _ratio(self, step: int, name: str, value: float) -> list[Finding]:
        past = self._values.setdefault(name, [])
        self._remember(past, value)
        if len(past) < FEWEST:
            return []
        median = statistics.median(past[-FEWEST:])
        high = f"the median of {FEWEST} steps is {median:.3g}: weights are rewritten rather than adjusted"
        low = f"the median of {FEWEST} steps is {median:.3g}: the weights do not move"
        expected = f"{RATIO_LOW:g} to {RATIO_HIGH:g}, most often near 1e-3"
        found = self._band(step, name, value, "too large", median > RATIO_HIGH, expected, high)
        return found + self._band(step, name, value, "too small", median < RATIO_LOW, expected, low)

    def _spike(self, step: int, name: str, value: float, centre: float, limit: float, judged: bool) -> list[Finding]:
        text = f"the median of the last {len(self._values[name])} is {centre:.4g}, and up to {limit:.4g} would be usual"
        return self._band(step, name, value, "a spike", judged and value > limit, f"at most {limit:.4g}", text)

    def _centre(self, past: list[float], floor: float | None = None) -> tuple[float, float]:
        """Median, and a robust standard deviation with a floor, so that a window of equal values alarms at no
        trifle."""
        centre = statistics.median(past)
        width = 1.4826 * statistics.median(abs(value - centre) for value in past)
        return centre, max(width, WIDTH_FLOOR * abs(centre) if floor is None else floor)

    def _remember(self, past: list[float], value: float) -> None:
        past.append(value)
        del past[: -self.window]

    def _band(
        self, step: int, name: str, value: float, what: str, out: bool, expected: str, text: str
    ) -> list[Finding]:
        """A finding when a band is left; no other until the number was back in it."""
        key = f"{name} {what}"
        if not out:
            self._raised.discard(key)
            return []
        if key in self._raised:
            return []
        self._raised.add(key)
        return [_finding(step, name, value, expected, f"{what}: {text}")]


def _exp(power: float) -> float:
    return math.exp(power) if power < 709 else math.inf


def _finding(step: int, name: str, value: float, expected: str, text: str) -> Finding:
    return Finding(step, name, value, expected, f"{name} = {value:.6g} ({text})")
