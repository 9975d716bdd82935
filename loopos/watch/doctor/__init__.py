"""``loopos.watch.doctor``: checks of a PyTorch program. The function that is called is in ``doctor.py``."""

from __future__ import annotations

from .doctor import doctor

__all__ = ["doctor"]
