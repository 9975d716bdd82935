"""Losses of a student against its teacher, each ``(loss, dstudent)``: mse, normalized_mse and cosine of hidden states,
kl of logits.

Like :mod:`loopos.ops`: numpy arrays of one dtype, float32 or float64, nothing cast, results the same for any number of
threads. The loss is the mean over rows, a float computed in double; dstudent is its gradient, with the shape of
``student``. A row for which a loss is not defined counts for nothing and is counted (``loopos.guard_counts()``).
Formulas: ``cpp/ops/row_losses.h``, ``cpp/ops/kl.h``.
"""

from __future__ import annotations

from loopos._core.losses import cosine, kl, mse, normalized_mse

__all__ = ["cosine", "kl", "mse", "normalized_mse"]
