"""What explain says: a cause, how sure, on what evidence, and the check that would decide."""

from __future__ import annotations

from dataclasses import dataclass, replace

CERTAIN, LIKELY, POSSIBLE, UNKNOWN = "certain", "likely", "possible", "unknown"
CONFIDENCE = (CERTAIN, LIKELY, POSSIBLE, UNKNOWN)
MEANING = {  # how much each word claims
    CERTAIN: "follows from the evidence alone",
    LIKELY: "the usual reason for this evidence; the check decides",
    POSSIBLE: "one of several reasons that fit",
    UNKNOWN: "the evidence does not tell",
}


@dataclass(frozen=True)
class Finding:
    """cause: a key such as "labels-masked"; confidence: one of CONFIDENCE; says: what it means, in a sentence or two;
    evidence: the lines, as "line N: text"; check: what would decide."""

    cause: str
    confidence: str
    says: str
    evidence: tuple[str, ...]
    check: str

    def __str__(self) -> str:
        lines = [f"{self.cause} ({self.confidence}): {self.says}", *(f"    {line}" for line in self.evidence)]
        return "\n".join([*lines, f"    check: {self.check}"])


@dataclass(frozen=True)
class Explanation:
    """findings: likely causes, in order; doubts: what the text itself claims and its evidence does not bear, or
    remedies in it that do not cure; facts: what was counted; notes: on the text as a file."""

    findings: tuple[Finding, ...]
    doubts: tuple[Finding, ...]
    facts: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def causes(self) -> tuple[str, ...]:
        """The keys of the findings, in order."""
        return tuple(finding.cause for finding in self.findings)

    def __str__(self) -> str:
        parts = ["; ".join(self.facts) + "."]
        if self.findings:
            seen: set[tuple[str, ...]] = set()
            for i, finding in enumerate(self.findings, 1):
                repeated = finding.evidence in seen and len(finding.evidence) > 1
                seen.add(finding.evidence)
                parts.append(f"{i}. {replace(finding, evidence=('the same lines',)) if repeated else finding}")
        if self.doubts:
            parts.append("Said in the text, but not borne out:")
            parts += [f"- {doubt}" for doubt in self.doubts]
        parts += [f"Note: {note}." for note in self.notes]
        return "\n".join(parts)
