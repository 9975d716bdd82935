"""Lines for a person, on standard error where there is one: a program without it, or whose reader is gone, goes on."""

from __future__ import annotations

import sys
from typing import Any


class Output:
    """sys.stderr as it is now; what is written to a stream that is missing, closed or broken is dropped."""

    def __init__(self) -> None:
        stream = sys.stderr
        usable = callable(getattr(stream, "write", None)) and not getattr(stream, "closed", False)
        self._stream: Any = stream if usable else None

    def __bool__(self) -> bool:
        return self._stream is not None

    @property
    def encoding(self) -> str:  # tqdm draws with characters that it has
        return getattr(self._stream, "encoding", None) or "utf-8"

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        """Whether a line can be drawn over."""
        try:
            return bool(self._stream.isatty())
        except (AttributeError, ValueError, OSError):
            return False

    def write(self, text: str) -> None:
        self._try("write", text)

    def flush(self) -> None:
        if hasattr(self._stream, "flush"):  # what programs put in place of the stream may have write alone
            self._try("flush")

    def _try(self, method: str, *arguments: Any) -> None:
        if self._stream is not None:
            try:
                getattr(self._stream, method)(*arguments)
            except (OSError, ValueError):  # closed, or nobody reads it any more
                self._stream = None


def to_stderr(text: object) -> None:
    """A line on standard error."""
    output = Output()
    output.write(f"{text}\n")
    output.flush()
