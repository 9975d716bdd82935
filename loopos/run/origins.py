"""From which lines of the data the rows of an update came: said where a number went bad in one of them."""

from __future__ import annotations

from typing import Any

from loopos.errors import Birth

Origins = tuple[tuple[str, ...], ...]  # of each micro-batch, of each of its rows, in words


def origins_of(source: Any, t: int, grad_accum: int) -> Origins:
    """Of the rows of update ``t``, from 0; empty where the data have no lines."""
    if not hasattr(source, "origin"):
        return ()
    return tuple(tuple(source.origin(t, micro, row) for row in range(source.batch_size)) for micro in range(grad_accum))


def origin_of(origins: Origins, birth: Birth | None) -> str:
    """What the row of a birth is made of, in a sentence; "" where it is in no row, or that is not known."""
    if birth is None or birth.micro_batch is None or not birth.place.startswith("row "):
        return ""
    micro, row = birth.micro_batch, birth.first_row + int(birth.index[0])
    if not (micro < len(origins) and row < len(origins[micro])):
        return ""
    return f"Row {row} of micro-batch {micro} is {origins[micro][row]}"
