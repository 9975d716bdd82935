"""A monitor that sits beside a run: plausibility bands, and spikes against the median and MAD of a window.

Medians make it robust: a spike moves neither the centre nor the width it is measured with, and a value that is not
finite is reported and counted but never enters the window, so it can neither blind the monitor nor freeze it. Alarms
are one-sided: a loss that falls is good news. Its state is plain numbers, for a checkpoint. (Median absolute
deviation, with 1.4826 to estimate a standard deviation: Hampel 1974, JASA 69:383.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from .course import STANDS, course
from .window import LATEST, Window

WINDOW = 128
FEWEST = 32  # values before spikes are judged
SIGMAS = 6.0
JUMP = 1e3  # a norm this many times its median
SPIKE = 10.0  # a norm at least this many times its median, besides being SIGMAS out
LOSS_TIMES = 10.0  # a loss this many times ln V, or its own median
RATIO_HIGH = 0.3  # of update to weight; the doctor draws its line there too
RATIO_LOW = 1e-8  # 6e-8 is half a unit in the last place of float32
WIDTH_FLOOR = 0.02  # of the median: a window without spread is no reason to alarm at the first change
_LOG_JUMP, _LOG_SPIKE = math.log(JUMP), math.log(SPIKE)
AHEAD = 12  # steps that may be remembered later, together
_OUTSIDE = ("far above ln V", "negative", "above ln V again")
_FAR, _JUMPED = "far above its past", "a jump"
_NEVER = (math.inf, -math.inf, -math.inf)
_MARGIN = 1 - 1e-9  # of a bound that is computed by another way than the one it stands for
LOSSES = ("loss", "eval_loss")


@dataclass(frozen=True)
class Alarm:
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
        self._uniform = math.inf if vocab_size is None else math.log(vocab_size)
        self.nonfinite: dict[str, int] = {}  # how many values of each name were not finite
        self._windows: dict[str, Window] = {}
        self._lowest: dict[str, float] = {}  # the lowest median of a loss so far
        self._first: dict[str, float] = {}  # the first value of a loss
        self._raised: set[str] = set()  # bands that are being left: said once, until it is back
        self._sure = _NEVER  # least and largest loss, and largest norm, that need no judge for AHEAD steps
        self._later: list[tuple[float, float]] = []  # of steps that needed none, not in the windows yet

    def observe(self, step: int, **numbers: Any) -> list[Alarm]:
        """The implausible ones of a step's numbers.

        Known: loss, eval_loss, grad_norm, and any other name that ends in "norm"; learning_rate; valid_tokens; and
        update_ratio, rms of update over rms of weight, as a number or as a dict by layer (of tensors that do not start
        at 0: those of a zero bias say nothing). Other finite numbers are ignored, None is a value that is not finite.
        TypeError for what is no number."""
        self._remember()
        found = self._judged(step, numbers)
        self._sure = self._bounds()
        return found

    def settles(self, loss: float, grad_norm: float) -> bool:
        """True: no number of this step can be implausible, whatever values have come since the bounds were made. It is
        put into the windows later, after AHEAD steps at most; ``observe`` would have found nothing. False: nothing was
        done, call ``observe``. Only for a step with a target and a finite rate."""
        low, high, largest = self._sure
        if not (low <= loss <= high and 0 < grad_norm <= largest and type(loss) is float and type(grad_norm) is float):
            return False
        self._later.append((loss, grad_norm))
        if len(self._later) == AHEAD:
            self._remember()
            self._sure = self._bounds()
        return True

    def course(self) -> str:
        """Where the loss goes, with that of this step: one of FALLS, STANDS and CLIMBS of course.py."""
        if self._later:
            self._remember()
            self._sure = self._bounds()
        losses = self._windows.get("loss")
        if losses is None:
            return STANDS
        return course(losses, self._first.get("loss"), self._lowest.get("loss", math.inf))

    def _remember(self) -> None:
        """What ``settles`` put off."""
        if not self._later:
            return
        losses, norms, low = self._windows["loss"], self._windows["grad_norm"], self._lowest.get("loss", math.inf)
        for loss, norm in self._later:
            losses.add_latest(loss)
            low = min(low, losses.latest)
            norms.add(math.log(norm))
        self._lowest["loss"] = low
        self._later.clear()

    def _bounds(self) -> tuple[float, float, float]:
        """For ``settles``: within them ``_is_calm`` is true of both numbers, for each of the next AHEAD steps."""
        losses, norms = self._windows.get("loss"), self._windows.get("grad_norm")
        if self._raised or losses is None or norms is None or min(len(losses), len(norms)) < FEWEST:
            return _NEVER
        latest, uniform, learned = losses.values[-LATEST:], self._uniform, 0.8 * self._uniform
        low, high = 0.0, min((1 + SIGMAS * WIDTH_FLOOR) * losses.least(AHEAD), LOSS_TIMES * uniform) * _MARGIN
        if max(latest) <= uniform:  # then no median of the latest is above it
            high = min(high, uniform)
        elif min(latest) >= learned and self._lowest.get("loss", math.inf) >= learned:  # and here none is below
            low = learned
        else:
            return _NEVER
        return low, high, min(SPIKE * _exp(norms.least(AHEAD)) * _MARGIN, 1e300)

    def _judged(self, step: int, numbers: Mapping[str, Any]) -> list[Alarm]:
        found: list[Alarm] = []
        idle = numbers.get("valid_tokens") == 0  # a loss of 0.0 by definition
        rate = numbers.get("learning_rate")
        for name, given in numbers.items():
            if not (idle or self._raised) and self._is_calm(name, given):
                continue
            many = isinstance(given, Mapping)
            if name == "update_ratio" and many and rate != 0 and not self._raised:
                known, given = self._calm_ratios(step, given)
            else:
                known = []
            parts = {f"{name}[{key}]": v for key, v in given.items()} if many else {name: given}
            before = len(found)
            found += known
            for label, number in parts.items():
                value = number if type(number) is float else _number(label, number)
                bad = not math.isfinite(value)
                if bad:
                    self.nonfinite[label] = self.nonfinite.get(label, 0) + 1
                if bad or self._raised:
                    found += self._band(step, label, value, "not finite", bad, "a finite number", "")
                if bad:
                    continue
                if name in LOSSES and not idle:
                    found += self._loss(step, label, value)
                elif name.endswith("norm") and not idle:
                    found += self._norm(step, label, value)
                elif name == "update_ratio" and rate != 0:
                    found += self._ratio(step, label, value)
            if many:
                found[before:] = _as_one(found[before:])
        return found

    def _is_calm(self, name: str, value: Any) -> bool:
        """Whether a number is well within its bands while none is left; then it is remembered. That is the usual case
        made short, for it is paid in every step: judges are the methods below."""
        if type(value) is not float:
            return name == "valid_tokens" and type(value) is int
        past = self._windows.get(name)
        if past is None:
            return name == "learning_rate" and math.isfinite(value)
        if len(past.values) < FEWEST:
            return False
        if name in LOSSES:
            centre, low = past.median, self._lowest.get(name, math.inf)
            if not 0 <= value <= min(centre + SIGMAS * (WIDTH_FLOOR * centre), LOSS_TIMES * self._uniform):
                return False
            if past.latest > self._uniform and low < 0.8 * self._uniform:
                return False
            past.add_latest(value)
            self._lowest[name] = min(low, past.latest)
            return True
        if not name.endswith("norm") or not 0 < value < math.inf:
            return False
        power = math.log(value)
        if power > past.median + _LOG_SPIKE:
            return False
        past.add(power)
        return True

    def _calm_ratios(self, step: int, ratios: Mapping[str, Any]) -> tuple[list[Alarm], Mapping[str, Any]]:
        """The same for the ratios of all matrices while no band is left: they are remembered up to the first that is
        implausible, or no number to remember; (what is found of it, those that come after)."""
        windows = self._windows
        for at, (key, value) in enumerate(ratios.items()):
            label = f"update_ratio[{key}]"
            past = windows.get(label)
            if past is None or type(value) is not float or not 0 <= value <= JUMP:
                return [], dict(islice(ratios.items(), at, None))
            past.add(value)
            if len(past.values) >= FEWEST and not RATIO_LOW <= past.median <= RATIO_HIGH:
                return self._ratio_bands(step, label, value, past), dict(islice(ratios.items(), at + 1, None))
        return [], {}

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts; ``load_state_dict`` goes on from them as if nothing had been between."""
        self._remember()
        return {
            "window": self.window,
            "vocab_size": self.vocab_size,
            "nonfinite": dict(self.nonfinite),
            "values": {name: list(window.values) for name, window in self._windows.items()},
            "lowest": dict(self._lowest),
            "first": dict(self._first),
            "raised": sorted(self._raised),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """All or nothing. ValueError when it is not what ``state_dict`` gives."""
        try:
            fresh = Monitor(window=state["window"], vocab_size=state["vocab_size"])
            fresh.nonfinite = {str(name): int(count) for name, count in state["nonfinite"].items()}
            fresh._windows = {str(name): fresh._new(name, values) for name, values in state["values"].items()}
            fresh._lowest = {str(name): float(value) for name, value in state["lowest"].items()}
            fresh._first = {str(name): float(value) for name, value in state.get("first", {}).items()}
            fresh._raised = {str(name) for name in state["raised"]}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"Monitor.load_state_dict: this is no state of a Monitor: {error!r}") from None
        windows = (window.values for window in fresh._windows.values())
        others = (fresh._lowest.values(), fresh._first.values())
        if not all(math.isfinite(value) for values in (*windows, *others) for value in values):
            raise ValueError("Monitor.load_state_dict: a remembered value is not finite")
        self.__dict__.update(fresh.__dict__)

    def _loss(self, step: int, name: str, value: float) -> list[Alarm]:
        past = self._window(name)
        count = len(past)
        if not count:
            self._first[name] = value
        found: list[Alarm] = []
        known = self._is_out(name, _FAR, *_OUTSIDE)
        if self.vocab_size is not None:
            uniform = self._uniform
            far = value > (LOSS_TIMES if count else 3.0) * uniform
            low = self._lowest.get(name, math.inf)
            lost = low < 0.8 * uniform and count >= LATEST and past.latest > uniform
            if far or value < 0 or lost or self._raised:
                said = f"ln {self.vocab_size} = {uniform:.4g} is a uniform guess"
                first = "; the first loss: look at the initialisation and the labels" if not count else ""
                found += self._band(step, name, value, _OUTSIDE[0], far, f"near or below {uniform:.4g}", said + first)
                text = "a cross-entropy is never negative"
                found += self._band(step, name, value, _OUTSIDE[1], value < 0, "at least 0", text)
                text = f"it was as low as {low:.4g}, and {said}: what was learned is lost"
                found += self._band(step, name, value, _OUTSIDE[2], lost, f"near {low:.4g}", text)
        outside = self._is_out(name, *_OUTSIDE)
        centre = past.median if count else value
        beyond = not outside and count >= 8 and centre > 0 and value > LOSS_TIMES * max(centre, 1.0)
        if beyond or self._raised:
            text = f"{LOSS_TIMES:g} times the median of the last {count}, {centre:.4g}, is passed"
            found += self._band(step, name, value, _FAR, beyond, f"near {centre:.4g}", text, known)
        judged = not outside and not beyond and count >= FEWEST
        limit = math.inf
        floor = WIDTH_FLOOR * abs(centre)
        if judged and value > centre + SIGMAS * floor:  # else no spread of the window makes it a spike
            limit = centre + SIGMAS * max(past.deviation(), floor)
        if self._raised or value > limit:
            found += self._spike(step, name, value, centre, limit, count, known)
        past.add_latest(value)
        if count + 1 >= LATEST:
            self._lowest[name] = min(self._lowest.get(name, math.inf), past.latest)
        return found

    def _norm(self, step: int, name: str, value: float) -> list[Alarm]:
        """Norms live on a logarithmic scale."""
        past = self._window(name)
        found: list[Alarm] = []
        if value < 0:
            return [_alarm(step, name, value, "at least 0", "a norm is never negative")]
        if value == 0:
            return found
        power, count = math.log(value), len(past)
        if count:
            known = self._is_out(name, _JUMPED)
            centre = past.median
            beyond = count >= 8 and power > centre + _LOG_JUMP
            if beyond or self._raised:
                median = _exp(centre)
                text = f"more than {JUMP:g} times the median of the last {count}, {median:.4g}"
                found += self._band(step, name, value, _JUMPED, beyond, f"near {median:.4g}", text)
            limit = math.inf
            if not beyond and count >= FEWEST and power > centre + _LOG_SPIKE:
                limit = _exp(centre + max(SIGMAS * past.deviation(), _LOG_SPIKE))
            if self._raised or value > limit:
                found += self._spike(step, name, value, _exp(centre), limit, count, known)
        past.add(power)
        return found

    def _ratio(self, step: int, name: str, value: float) -> list[Alarm]:
        past = self._window(name)
        past.add(value)
        return self._ratio_bands(step, name, value, past)

    def _ratio_bands(self, step: int, name: str, value: float, past: Window) -> list[Alarm]:
        absurd = value > JUMP and len(past) > 1  # in the first step weights may be tiny, and be what they should next
        found: list[Alarm] = []
        if absurd or self._raised:
            text = f"one update is more than {JUMP:g} times its weights"
            found = self._band(step, name, value, "absurd", absurd, f"at most {RATIO_HIGH:g}", text)
        if len(past) < FEWEST:
            return found
        median = past.median
        # One that wanders about a bound is one excursion: back is half or double of it.
        high = median > (RATIO_HIGH / 2 if self._is_out(name, "too large") else RATIO_HIGH)
        low = median < (RATIO_LOW * 2 if self._is_out(name, "too small") else RATIO_LOW)
        if not (high or low or self._raised):
            return found
        said = f"the median of {FEWEST} steps is {median:.3g}: "
        expected = f"{RATIO_LOW:g} to {RATIO_HIGH:g}, most often near 1e-3"
        rewritten = said + "weights are rewritten rather than adjusted"
        found += self._band(step, name, value, "too large", high, expected, rewritten)
        return found + self._band(step, name, value, "too small", low, expected, said + "the weights do not move")

    def _spike(
        self, step: int, name: str, value: float, centre: float, limit: float, count: int, known: bool
    ) -> list[Alarm]:
        text = f"the median of the last {count} is {centre:.4g}, and up to {limit:.4g} would be usual"
        return self._band(step, name, value, "a spike", value > limit, f"at most {limit:.4g}", text, known)

    def _is_out(self, name: str, *bands: str) -> bool:
        return bool(self._raised) and any(f"{name} {band}" in self._raised for band in bands)

    def _window(self, name: str) -> Window:
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = self._new(name)
        return window

    def _new(self, name: str, values: Iterable[float] = ()) -> Window:
        """Of ratios there may be one for every tensor of a large model: as many are kept as are judged."""
        return Window(FEWEST if name.startswith("update_ratio") else self.window, values)

    def _band(
        self, step: int, name: str, value: float, what: str, out: bool, expected: str, text: str, known: bool = False
    ) -> list[Alarm]:
        """A finding when a band is left; no other until the number was back in it. known: it is coming back from
        farther out, which has been said."""
        key = f"{name} {what}"
        if not out:
            self._raised.discard(key)
            return []
        if key in self._raised:
            return []
        self._raised.add(key)
        return [] if known else [_alarm(step, name, value, expected, f"{what}: {text}" if text else what)]


def _as_one(found: list[Alarm]) -> list[Alarm]:
    """What many tensors have in common is said once, with the first of them."""
    if len(found) < 2:
        return found
    first = found[0]
    return [replace(first, sentence=f"{first.sentence}; {len(found) - 1} more tensors leave their bounds in this step")]


def _number(label: str, given: Any) -> float:
    if isinstance(given, bool) or not (given is None or hasattr(given, "__float__")):
        raise TypeError(f"Monitor.observe: {label} must be a number, got {type(given).__name__}")
    return math.nan if given is None else float(given)


def _exp(power: float) -> float:
    return math.exp(power) if power < 709 else math.inf


def _alarm(step: int, name: str, value: float, expected: str, text: str) -> Alarm:
    return Alarm(step, name, value, expected, f"{name} = {value:.6g} ({text})")
