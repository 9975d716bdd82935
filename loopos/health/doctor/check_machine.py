"""What the doctor asks of the machine and the build: threads that exist, arithmetic that has all its numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loopos import _core, ops

from .patient import Patient
from .report import FAIL, OK, WARN, Check

TINY = 5e-324  # the smallest float64; flushed to zero where somebody's fast-math library was loaded
DENORMAL_SHARE = 0.01
CGROUP = Path("/sys/fs/cgroup")


def check_machine(patient: Patient) -> Iterator[Check]:
    """The checks of machine, build and weights, in order."""
    yield threads(_core.get_num_threads(), usable_cores())
    yield arithmetic("arithmetic", core_arithmetic(), FAIL, "the core was built with fast-math: build it without")
    yield arithmetic("process", python_arithmetic(), WARN, "a library in this process has switched them off (FTZ, DAZ)")
    yield build(_core.build_info(), _core.isa(), _core.available_isas())
    yield weights(patient.model.parameters())


def usable_cores(root: Path = CGROUP) -> tuple[float, str]:
    """(how many cores this process may use, what says so): the least of processors, affinity and control group."""
    limits = [(float(os.cpu_count() or 1), "the machine's processors")]
    if hasattr(os, "sched_getaffinity"):
        limits.append((float(len(os.sched_getaffinity(0))), "the processors this process may run on"))
    quota = cgroup_quota(root)
    if quota is not None:
        limits.append((quota, "the control group's quota"))
    return min(limits, key=lambda limit: limit[0])


def cgroup_quota(root: Path) -> float | None:
    """Cores that the control group grants in a container, version 2 or 1; None without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((root / name).read_text() for name in names).split()
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):  # not there, or "max": no limit
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None


def threads(count: int, cores: tuple[float, str]) -> Check:
    number, why = cores
    measured = f"{count} for {number:g} cores ({why})"
    if count > max(1, math.ceil(number)):
        advice = f"set_num_threads({max(1, math.floor(number))}): threads without a core wait for each other"
        return Check("threads", measured, "no more threads than cores", WARN, advice)
    return Check("threads", measured, "no more threads than cores", OK)


def python_arithmetic() -> dict[str, bool]:
    """What must hold in this thread, whoever was loaded into the process. Computed, not folded by the compiler."""
    tiny, one, small = float(str(TINY)), float("1"), np.full(4, 1e-45, np.float32)
    nan = float("inf") - float("inf")
    return {
        "5e-324 is not 0 in Python": tiny * one != 0.0,
        "1e-45 is not 0 in numpy": bool((small * np.float32(1) != 0).all()),
        "inf - inf is NaN in Python": nan != nan,
        "2**-53 rounds to even": one + 2.0**-53 == one and one + 2.0**-52 > one,
    }


def core_arithmetic() -> dict[str, bool]:
    """The same of the compiled core, by what its operations return."""
    one, huge = np.ones((1, 1), np.float32), np.full((1, 1), 3e38, np.float32)
    with np.errstate(all="ignore"):
        product = ops.matmul(huge, huge)
        difference = ops.matmul(np.array([[np.inf, -np.inf]], np.float32), np.ones((2, 1), np.float32))
        small = ops.matmul(np.full((1, 1), 1e-40, np.float32), one)
        passed_on = ops.softmax(np.array([[np.nan, 0]], np.float32))
    return {
        "an overflow is inf in the core": bool(np.isinf(product).all()),
        "inf - inf is NaN in the core": bool(np.isnan(difference).all()),
        "1e-40 is not 0 in the core": bool((small != 0).all()),
        "a NaN passes through the core's softmax": bool(np.isnan(passed_on).any()),
    }


def arithmetic(name: str, facts: Mapping[str, bool], verdict: str, advice: str) -> Check:
    """One line about ``facts``; ``verdict`` and ``advice`` are for when one does not hold."""
    broken = [fact for fact, holds in facts.items() if not holds]
    expected = "denormals, NaN, inf and rounding as IEEE 754 has them"
    if broken:
        return Check(name, f"not so: {'; '.join(broken)}", expected, verdict, advice)
    return Check(name, f"{len(facts)} of {len(facts)} facts hold", expected, OK)


def build(info: Mapping[str, Any], isa: str, available: list[str]) -> Check:
    measured, expected = f"{info['build_type']} build, {isa} in use", f"Release, {available[-1]}"
    if str(info["build_type"]) not in ("Release", "RelWithDebInfo"):
        return Check("build", measured, expected, WARN, "an unoptimised core is many times slower: install it again")
    if isa != available[-1]:
        return Check("build", measured, expected, WARN, "LOOPOS_ISA holds the core below what the processor can do")
    return Check("build", measured, expected, OK)


def weights(views: Mapping[str, np.ndarray]) -> Check:
    """All finite, hardly any denormal: those are slow, and say that something has died away."""
    name, expected = "weights", f"all finite, at most {DENORMAL_SHARE:.0%} denormal"
    total = denormal = 0
    for key, view in views.items():
        # Sums see NaN and inf without a copy of a large tensor; only a doubtful one is looked through.
        with np.errstate(all="ignore"):
            doubtful = not np.isfinite(np.sum(view, dtype=np.float64))
        if doubtful and not (finite := np.isfinite(view)).all():
            index = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), view.shape))
            bad = int(np.count_nonzero(~finite))
            measured = f"{bad} not finite, the first {key}{list(index)} = {view[index]}"
            advice = "load a checkpoint from before, or ask what wrote it"
            return Check(name, measured, expected, FAIL, advice)
        flat = view.reshape(-1)[:: max(1, view.size // 100_000)]
        total += flat.size
        denormal += int(np.count_nonzero((flat != 0) & (np.abs(flat) < np.finfo(view.dtype).tiny)))
    share = denormal / max(1, total)
    measured = f"all finite, {share:.1%} of {total} looked at denormal"
    if share > DENORMAL_SHARE:
        advice = "weights that small died away (decay without gradient?) and are slow to compute with"
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)
