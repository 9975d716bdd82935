"""What a model computes in, as people ask it: its dtype, the precision of its products, what computes them here."""

from __future__ import annotations

from typing import Any

from .calls import refuse_in_training
from .precision import Arithmetic


class Computing:
    """The part of a model that says what it computes in. ``arithmetic``: dtype, weights and precision, and what goes
    together of them."""

    arithmetic: Arithmetic
    lock: Any
    _core: Any
    _training: bool

    @property
    def dtype(self) -> str:
        return self.arithmetic.dtype

    @property
    def precision(self) -> str:
        """How exactly the factors of the products are taken, at least: "float32" as they are, "bf16x3" as two bfloat16
        pieces in three products (a relative error of 2^-17 a factor), "bf16" rounded to bfloat16 (2^-8). Sums, norms,
        softmax, loss, weights and optimizer are float32 under each (docs/precision.md). Products of a
        float64 model are float64, whatever was asked for.

        It can be set at any time but while loopos.train trains this model (RuntimeError). ValueError for another
        name."""
        return self.arithmetic.precision

    @precision.setter
    def precision(self, precision: str) -> None:
        where = f"{type(self).__name__}.precision"
        with self.lock:
            refuse_in_training(self, where)
            self._compute_in(self.arithmetic.with_precision(where, precision))

    @property
    def products(self) -> str:
        """What the products are computed with in this process: "fma" (float32 multiply-adds, whatever the precision),
        "tiles bf16x6" (float32 by six products of bfloat16 pieces, those of large matrices), "tiles bf16x3",
        "tiles bf16", or "emulated" and these; "float64" of a float64 model."""
        return str(self._core.products)

    def _compute_in(self, arithmetic: Arithmetic) -> None:
        """Of a core of this dtype and these weights."""
        self._core.precision = arithmetic.precision
        self.arithmetic = arithmetic

    def _in_words(self) -> str:
        """What of it is not as usual, for repr."""
        return "" if self.precision == "float32" else f", precision={self.precision!r}"
