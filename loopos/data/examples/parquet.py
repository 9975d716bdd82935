"""Rows of a Parquet file, by pyarrow (extra [data])."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from loopos.files import kinds

from .forms import FIELDS, check_columns
from .lines import WHOLE, Share, bounds

_ROWS = 256  # read together


def rows(
    path: Path, name: str, seen: Callable[[int], Any] | None = None, share: Share = WHOLE
) -> Iterator[tuple[int, Any]]:
    """(row from 1, record) of the columns that examples are made of, of this share of the rows; groups of rows without
    one of them are not read. pyarrow missing: ImportError naming the extra; a
    file it cannot read: ValueError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ImportError(f"{name}: reading Parquet needs the package pyarrow; pip install 'loopos[data]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            columns = [c for c in check_columns(file.schema_arrow.names, name) if c in FIELDS]
            total = file.metadata.num_rows
            first, last = bounds(total, share)
            ends = list(accumulate(file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)))
            begins = [0, *ends]
            groups = [i for i, end in enumerate(ends) if begins[i] < last and end > first]
            number = begins[groups[0]] if groups else 0  # rows before the batch
            for batch in file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=columns):
                if seen is not None:
                    seen(path.stat().st_size * batch.num_rows // max(1, total))
                skipped = min(batch.num_rows, max(0, first - number))
                own = batch.slice(skipped, max(0, last - number - skipped))
                yield from enumerate(own.to_pylist(), number + skipped + 1)
                number += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None):  # the system's own: no such file, no permission
            raise
        with path.open("rb") as file:
            head = file.read(kinds.HEAD)
        if not head.startswith(b"PAR1") and (kind := kinds.kind_of(head)) is not None:
            raise ValueError(f"{name}: expected a Parquet file; this is {kind}") from None
        raise ValueError(f"{name}: expected a Parquet file, got one that pyarrow cannot read: {error}") from None
