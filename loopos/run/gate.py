"""The gate between gradients and weights: nothing is updated with a number that is not finite.

The core says cheaply that something may be wrong; only then is the update's arithmetic repeated with every tensor
looked at, and the first one that is not finite is the birth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loopos.births.birth import find_birth, layer_of, refused_update
from loopos.distributed.alone import Alone
from loopos.errors import Birth

__all__ = ["agreed_birth", "clip_factor", "find_birth", "layer_of", "refused_update"]


def agreed_birth(
    ranks: Alone, core: Any, calls: Sequence[Any], *, raised: Mapping[int, Any], **known: Any
) -> Birth | None:
    """:func:`find_birth` in every process, and the same answer in all: that of the first rank whose own passes have
    one, which it then names; else what is wrong with the sum of all."""
    if ranks.size == 1:
        return find_birth(core, calls, raised=raised, **known)
    finite = math.isfinite(known["loss"]) and math.isfinite(known["norm"])
    births = ranks.gather(find_birth(core, calls, raised=raised, **known) if raised or not finite else None)
    for rank, birth in enumerate(births):
        if birth is not None and birth.micro_batch is not None:
            return replace(birth, rank=f"rank {rank} of {ranks.size}")
    return births[0]


def clip_factor(norm: float, max_norm: float | None) -> float:
    """What gradients are multiplied by so that their norm is at most ``max_norm``; 1.0, which changes no bit, when it
    is already."""
    return max_norm / norm if max_norm is not None and norm > max_norm else 1.0
