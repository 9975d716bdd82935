"""Shapes that broadcasting lets through in a loss, so that every row is set against every other: (N, 1) beside (N,).

Of a loss of torch.nn.functional, of a difference or product by hand, and of a target that became (N, N) on its way, as
rewards (N, 1) + values (N,) do. A square that is meant (pairs of a ranking, a kernel) is never compared with a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .arguments import made_by

COMPARED = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}  # element by element: two tensors of one shape
COMPARED |= {"poisson_nll_loss", "gaussian_nll_loss", "hinge_embedding_loss"}
DIFFERENCES = {"sub", "__sub__", "__rsub__", "rsub", "subtract"}
PRODUCTS = {"mul", "__mul__", "__rmul__", "multiply"}
SUMS = {"add", "__add__", "__radd__"}
KEPT = {"detach", "clamp", "clone", "to", "float", "neg", "__neg__", "div", "__truediv__"}  # what leaves a square one
BY_HAND = {*DIFFERENCES, *PRODUCTS, *SUMS, *KEPT}


class Spread(NamedTuple):
    """said: what was computed; one, two: the shapes it was computed of."""

    said: str
    one: tuple[int, ...]
    two: tuple[int, ...]


class Shapes:
    """spread: what was found, in order. Made for one computation of a loss."""

    def __init__(self) -> None:
        self.spread: list[Spread] = []
        self._squares: dict[int, tuple[Any, Spread]] = {}  # that came of (N, 1) and (N,), and what was made of them

    def compare(self, name: str, one: Any, two: Any) -> None:
        """A loss of two tensors was computed."""
        import torch

        size = torch.broadcast_shapes(one.shape, two.shape).numel()
        if size > max(one.numel(), two.numel()) or _is_row_of(one, two) or _is_row_of(two, one):
            self.spread.append(self._origin(one, two) or Spread(name, tuple(one.shape), tuple(two.shape)))

    def combine(self, name: str, given: tuple[Any, ...], result: Any) -> None:
        """One of BY_HAND was computed, of the loss."""
        import torch

        operands = [each for each in given[:2] if isinstance(each, torch.Tensor)]
        if not isinstance(result, torch.Tensor):
            return
        if len(operands) == 2 and name not in KEPT:
            one, two = operands
            found = Spread(_said(name), tuple(one.shape), tuple(two.shape))
            if spreads(one, two, sums=name in SUMS):
                self.spread.append(found)
                return
            origin = self._origin(one, two) if name in DIFFERENCES else None
            if origin is not None and (one.requires_grad != two.requires_grad or _gathered(one) or _gathered(two)):
                self.spread.append(origin)
            elif _beside(one, two) and not _same_source(one, two):
                self._squares[id(result)] = result, found
        kept = next((self._squares[id(each)][1] for each in operands if id(each) in self._squares), None)
        if kept is not None:
            self._squares[id(result)] = result, kept

    def _origin(self, one: Any, two: Any) -> Spread | None:
        """Where one of the two is a square of before, and the other a row or column of numbers: how it came about."""
        for square, row in ((one, two), (two, one)):
            if id(square) in self._squares and _is_row_of(row, square):
                return self._squares[id(square)][1]
        return None


def _said(name: str) -> str:
    return "a sum" if name in SUMS else "a difference" if name in DIFFERENCES else "a product"


def spreads(one: Any, two: Any, sums: bool = False) -> bool:
    """Of a difference or product by hand: whether it sets (N, 1) against (N,), one of the model and one of the data, or
    a column that the model gathered by an index of each row. sums: of a sum, that only: distances of all pairs begin
    with one."""
    if not _beside(one, two):
        return False
    return (not sums and one.requires_grad != two.requires_grad) or _gathered(one if one.ndim > two.ndim else two)


def _gathered(tensor: Any) -> bool:
    return made_by(tensor, "Gather")


def _beside(one: Any, two: Any) -> bool:
    """(N, 1) and (N,), or the same with more dimensions."""
    wide, flat = (one, two) if one.ndim > two.ndim else (two, one)
    return wide.ndim == flat.ndim + 1 and wide.shape[:-1] == flat.shape and wide.shape[-1] == 1 and flat.numel() > 1


def _is_row_of(row: Any, square: Any) -> bool:
    """(N,) or (N, 1) of (N, N)."""
    count = row.numel()
    return count > 1 and tuple(square.shape) == (count, count) and tuple(row.shape) in ((count,), (count, 1))


def _same_source(one: Any, two: Any) -> bool:
    """Two views of one tensor: all pairs are meant."""
    if any(str(each.layout) != "torch.strided" for each in (one, two)):
        return False
    return one.untyped_storage().data_ptr() == two.untyped_storage().data_ptr()
