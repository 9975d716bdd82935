"""Every fault of the matrix in one list. ``python tests/health/fault_matrix.py`` prints the table of docs/faults.md."""

from __future__ import annotations

import fault_matrix_adapters  # noqa: F401 (they fill the list)
import fault_matrix_backward  # noqa: F401
import fault_matrix_forward  # noqa: F401
import fault_matrix_update  # noqa: F401
from fault_stage import FAULTS, Place, answer

HEAD = """# Faults, and what LoopOS says of them

Each fault is provoked at one element that is known beforehand, on a model of two blocks, and the answer is compared
with that: place is phase, block, operation, tensor and index, all of them exact. "natural" faults come out of the
arithmetic; "planted" ones are written into a tensor by `loopos.testing`, and then "unknown" is the right cause: the
operands give another number. The rules that tell causes were written with most of these faults in sight; on faults at
random places (`tests/births/test_causes.py`) they were not.

Printed by `python tests/health/fault_matrix.py`; `tests/health/test_fault_matrix.py` checks that this is what the
build in hand answers.
"""


def table() -> str:
    lines = [HEAD, "| | fault | expected | place exact | cause given | right |", "|---|---|---|---|---|---|"]
    places = causes = births = 0
    for fault in FAULTS:
        got = answer(fault.run)
        exact = got.place == fault.expected
        cells = [fault.group, fault.name, "no alarm", "yes" if exact else "no", "", ""]
        if isinstance(fault.expected, Place):
            right = got.cause == fault.cause
            births, places, causes = births + 1, places + exact, causes + right
            cells[2], cells[4:] = str(fault.expected), (str(got.cause), "yes" if right else f"no: {fault.cause}")
        elif fault.expected is not None:
            cells[2] = fault.expected.__name__
        lines.append("| " + " | ".join(cells) + " |")
    counted = f"{births} have a birth: place exact in {places}, cause right in {causes}"
    return "\n".join([*lines, "", f"{len(FAULTS)} faults, of which {counted}.", ""])


if __name__ == "__main__":
    print(table(), end="")
