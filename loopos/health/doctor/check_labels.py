"""What the doctor asks of examples: that their labels teach something, to the end. Every example is counted."""

from __future__ import annotations

from loopos.data.examples.audit import LabelAudit

from .report import OK, WARN, Check

CUT = 0.1  # a larger share of examples that lose their end is remarkable
ENDED = 0.9  # so is a smaller share that teaches where to stop


def label_audit(audit: LabelAudit) -> Check:
    """Rows with nothing to learn, rows that are cut, rows that do not end. That nothing at all is left is an error
    before this."""
    name, expected = "label audit", "something to learn in every example, to its end"
    learnable = audit.examples - audit.empty_rows
    measured = (
        f"{audit.valid} of {audit.tokens} tokens of {audit.examples} examples are learned, {audit.empty_rows} rows "
        f"have nothing to learn, {audit.cut} are cut, {audit.ended} of {learnable} end in a learned end of text"
    )
    if audit.empty_rows:
        advice = "; ".join(audit.described(cause) for cause in audit.causes)
        return Check(name, measured, expected, WARN, advice)
    if audit.cut > CUT * audit.examples:
        advice = f"examples longer than seq_len {audit.seq_len} lose their end: a larger seq_len, or shorter examples"
        return Check(name, measured, expected, WARN, advice)
    if audit.ended < ENDED * learnable:
        why = "the tokenizer has no end-of-text token" if audit.end_token is None else "most rows lack it"
        return Check(name, measured, expected, WARN, f"the model does not learn where to stop: {why}")
    return Check(name, measured, expected, OK)
