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
    ranks: Alone, core: Any, calls: Sequence[Any], *, raised: Mapping[int, Any], spoiled: bool = False, **known: Any
) -> Birth | None:
    """:func:`find_birth` in every process, and the same answer in all: that of the first rank whose own passes have
    one, which it then names; else what is wrong with the sum of all, and which rank gave it such a number. spoiled:
    whether this one did."""
    if ranks.size == 1:
        return find_birth(core, calls, raised=raised, **known)
    finite = math.isfinite(known["loss"]) and math.isfinite(known["norm"])
    own = find_birth(core, calls, raised=raised, **known) if raised or not finite else None
    told = ranks.gather((own, spoiled))
    births = [birth for birth, _ in told]
    for rank, birth in enumerate(births):
        if birth is not None and birth.micro_batch is not None:
            return replace(birth, rank=f"rank {rank} of {ranks.size}")
    first = next((rank for rank, (_, theirs) in enumerate(told) if theirs), None)
    if first is None or births[0] is None:
        return births[0]
    return replace(births[0], rank=f"rank {first} of {ranks.size}")


def clip_factor(norm: float, max_norm: float | None) -> float:
    """What gradients are multiplied by so that their norm is at most ``max_norm``; 1.0, which changes no bit, when it
    is already."""
    return max_norm / norm if max_norm is not None and norm > max_norm else 1.0
