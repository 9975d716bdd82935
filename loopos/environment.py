"""What is said at import when an environment variable is refused, by the compiled core or by ``loopos.precision``.
Nothing here needs the core."""

from __future__ import annotations

import os
import re
import sys

VARIABLES = ("LOOPOS_ISA", "LOOPOS_NUM_THREADS", "LOOPOS_PRODUCTS", "LOOPOS_PRECISION")


def refused(error: ImportError) -> None:
    """Say it in a sentence that ends with what to do: as an ImportError, or, where the command line is what imports,
    on stderr with exit code 2. Returns when the error is about something else."""
    text = str(error)
    name = next((name for name in VARIABLES if text.startswith(f"{name}=")), None)
    if name is None:
        return
    sentence = f"loopos: {text}; set that environment variable to a value that fits, or unset it (unset {name})"
    if _is_command_line():
        if sys.stderr is not None:
            print(sentence, file=sys.stderr)
        raise SystemExit(2) from None
    raise ImportError(sentence, name="loopos._core") from None


def _is_command_line() -> bool:
    """The program ``loopos``, or ``python -m loopos``, also as ``-mloopos`` and behind other letters (``-Im``)."""
    as_module = re.search(r"\0-[A-Za-z]*m\0?loopos(\0|$)", "\0".join(sys.orig_argv)) is not None
    program = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))
    return (as_module and sys.argv[:1] == ["-m"]) or program in (("loopos", ""), ("loopos", ".exe"))
