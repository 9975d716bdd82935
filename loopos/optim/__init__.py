"""The update rules of ``torch.optim`` and Lion, in one fused pass per tensor, all or nothing.

A step first proves that nothing it writes can become NaN or infinite (``cpp/optim/optimizer.h``); where it cannot,
it raises :class:`loopos.NonFiniteError` and no weight, moment or count has changed.
"""

from .rules import SGD, Adam, AdamW, Lion, Muon

__all__ = ["SGD", "Adam", "AdamW", "Lion", "Muon"]
