"""Every fault of the matrix in one list. ``python tests/health/fault_matrix.py`` prints the table of docs/faults.md;
with --json, what a test of other processes reads."""

from __future__ import annotations

import json
import sys

import fault_matrix_adapters  # noqa: F401 (they fill the list)
import fault_matrix_backward  # noqa: F401
import fault_matrix_forward  # noqa: F401
import fault_matrix_precision  # noqa: F401
import fault_matrix_update  # noqa: F401
import numpy as np
from fault_stage import FAULTS, Place, Stage, answer

HEAD = """# Faults, and what LoopOS says of them

Each fault is provoked at one element that is known beforehand, on a model of two blocks, and the answer is compared
with that: place is phase, block, operation, tensor and index, all of them exact. "natural" faults come out of the
arithmetic; "planted" ones are written into a tensor by `loopos.testing`, and then "unknown" is the right cause: the
operands give another number. "products" are of numbers that are finite in float32 and inf in bfloat16, beside zeros,
under the precision that is named: matrix tiles make NaN of whole rows, LoopOS computes such sums again by float32
multiply-adds. The rules that tell causes were written with most of these faults in sight; on faults at random places
(`tests/births/test_causes.py`) they were not. With `LOOPOS_PRECISION` bf16x3 or bf16, on tiles and on their emulation,
every line is the same (`tests/health/test_fault_precision.py`).

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


def answers() -> dict[str, object]:
    """products: what the models' are computed with; gradients: a sum over those of a sound step, in hexadecimal;
    answers: by fault, everything that is said of a birth but numbers that are a little different in bfloat16."""
    stage, found = Stage(), {}
    _, gradients = stage.model.loss_and_grads(stage.ids, stage.targets)
    total = sum(float(np.abs(each).sum(dtype=np.float64)) for each in gradients.values())
    for fault in FAULTS:
        got = answer(fault.run)
        place = got.place.__name__ if isinstance(got.place, type) else str(got.place)
        found[f"{fault.group}: {fault.name}"] = told = [place, got.cause]
        if got.birth is not None:
            told += [got.birth.step, got.birth.micro_batch, f"{got.birth.value}", got.birth.place]
            # Only the first: behind it inf may meet a zero that pads a panel, or none.
            told += [[each["phase"], each["layer"], each["tensor"], each["flags"]] for each in got.birth.raised[:1]]
    return {"products": stage.model.products, "gradients": total.hex(), "answers": found}


if __name__ == "__main__":
    print(json.dumps(answers()) if "--json" in sys.argv[1:] else table(), end="")
