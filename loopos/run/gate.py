"""The gate between gradients and weights: nothing is updated with a number that is not finite.

The core says cheaply that something may be wrong; only then is the update's arithmetic repeated with every tensor
looked at, and the first one that is not finite is the birth.
"""

from __future__ import annotations

from loopos.births.birth import find_birth, layer_of, refused_update

__all__ = ["clip_factor", "find_birth", "layer_of", "refused_update"]


def clip_factor(norm: float, max_norm: float | None) -> float:
    """What gradients are multiplied by so that their norm is at most ``max_norm``; 1.0, which changes no bit, when it
    is already."""
    return max_norm / norm if max_norm is not None and norm > max_norm else 1.0
