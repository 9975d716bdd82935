"""Examples of unequal length put together into rows of one length."""

from __future__ import annotations

import numpy as np


def pack(lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """(order (n,), starts (rows + 1,)): row r holds the examples order[starts[r] : starts[r + 1]], whose ``lengths``
    (n,), each from 1 to ``room``, come to at most ``room``.

    Best fit, decreasing: the longest first, of equals the earlier, each into the row with the least room that it fits
    in (Johnson 1974: at most 11/9 of the fewest rows possible, and 4 more). The order within a row is that of the data.
    The rows with each amount of room left are kept together, and a number whose bit k says that some row has room for k
    finds the best one, so that it takes n steps of room / 64 words."""
    count = len(lengths)
    row_of = np.zeros(count, np.int64)
    open_rows: list[list[int]] = [[] for _ in range(room + 1)]
    rooms, rows = 0, 0
    for example in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[example])
        fitting = rooms >> length
        if fitting:
            left = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[left].pop()
            if not open_rows[left]:
                rooms ^= 1 << left
        else:
            left, row = room, rows
            rows += 1
        row_of[example] = row
        if left > length:
            open_rows[left - length].append(row)
            rooms |= 1 << (left - length)
    order = np.argsort(row_of, kind="stable")
    return order, np.searchsorted(row_of[order], np.arange(rows + 1))
