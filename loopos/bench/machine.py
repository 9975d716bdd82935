"""This machine: what it is, and its limits as measured between the turns of the engines."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import loopos
from loopos import _core

SECONDS = 0.15  # of one measurement
SMALLEST = 64 << 20  # bytes of an array whose addition shows the memory's speed


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def describe() -> dict[str, Any]:
    """What a reader needs to compare figures with another machine's."""
    return {
        "processor": _processor(),
        "cores": _cores(),
        "last_level_cache": cache_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "loopos": loopos.__version__,
        "isa": _core.isa(),
        "compiler": _core.build_info()["compiler"],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_bytes() -> int:
    """Of the last level, which other programs may share; 0 where the system does not say."""
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) << 10)
    return max(sizes)


def processor_times(text: str | None = None) -> tuple[int, int] | None:
    """(ticks that the processors were wanted, ticks of these that a hypervisor gave to others) since the system began,
    from the first line of /proc/stat; None where there is none."""
    if text is None:
        source = Path("/proc/stat")
        text = source.read_text() if source.exists() else ""
    fields = [int(word) for word in text.partition("\n")[0].split()[1:9]]
    if len(fields) < 8:
        return None
    user, nice, system, _idle, _waiting, irq, soft_irq, stolen = fields
    return user + nice + system + irq + soft_irq + stolen, stolen


class Limits:
    """The multiply-add peak (FLOP/s, float32) and the memory bandwidth (bytes/s) of ``threads`` threads of this
    process, measured each time :meth:`measure` is called; and the share of processor time since this object was made
    that a hypervisor gave to others (None where the system does not say).

    The bandwidth is of y = a + b, 12 bytes a number, over three arrays that are each as large as the last level of the
    cache, or an eighth of the memory that is left where that is less."""

    def __init__(self, threads: int):
        self._threads = threads
        size = min(max(SMALLEST, cache_bytes()), _core.available_bytes() / 8)
        self._numbers = max(1, int(size) // 4)
        self._peaks: list[float] = []
        self._bandwidths: list[float] = []
        self._began = processor_times()

    def measure(self) -> None:
        _core.set_num_threads(self._threads)
        self._peaks.append(_core.machine.multiply_add_rate(SECONDS))
        self._bandwidths.append(_core.machine.memory_rate(self._numbers, SECONDS))

    def result(self) -> dict[str, Any]:
        return {
            "threads": self._threads,
            "flops_per_second": spread(self._peaks),
            "bytes_per_second": spread(self._bandwidths),
            "array_bytes": 4 * self._numbers,
            "stolen": self._stolen(),
        }

    def _stolen(self) -> float | None:
        now = processor_times()
        if now is None or self._began is None:
            return None
        wanted, stolen = (after - before for after, before in zip(now, self._began, strict=True))
        return stolen / wanted if wanted > 0 else 0.0
