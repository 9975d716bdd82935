"""Rows of a Parquet file, by pyarrow (extra [data])."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loopos.files import kinds

from .forms import FIELDS, check_columns

_ROWS = 256  # read together


def rows(path: Path, name: str, seen: Callable[[int], Any] | None = None) -> Iterator[tuple[int, Any]]:
    """(row from 1, record) of the columns that examples are made of. pyarrow missing: ImportError naming the extra; a
    file it cannot read: ValueError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ImportError(f"{name}: reading Parquet needs the package pyarrow; pip install 'loopos[data]'") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            columns = [c for c in check_columns(file.schema_arrow.names, name) if c in FIELDS]
            for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
                if seen is not None:
                    seen(path.stat().st_size * batch.num_rows // max(1, file.metadata.num_rows))
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None):  # the system's own: no such file, no permission
            raise
        with path.open("rb") as file:
            head = file.read(kinds.HEAD)
        if not head.startswith(b"PAR1") and (kind := kinds.kind_of(head)) is not None:
            raise ValueError(f"{name}: expected a Parquet file; this is {kind}") from None
        raise ValueError(f"{name}: expected a Parquet file, got one that pyarrow cannot read: {error}") from None
