"""What of a folder is not used, and why: counted, with examples."""

from __future__ import annotations

from typing import Any

EXAMPLES = 5


class LeftOut:
    """Counts by kind, each with its first few examples. Nothing is left out of a folder without standing here."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        shown = self.examples.setdefault(kind, [])
        if len(shown) < EXAMPLES:
            shown.append(example)

    def to_dict(self) -> dict[str, Any]:
        """{kind: {"count", "examples"}}: JSON-safe."""
        return {kind: {"count": count, "examples": list(self.examples[kind])} for kind, count in self.counts.items()}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        """A line a kind; empty where nothing is left out."""
        lines = []
        for kind, count in self.counts.items():
            more = ", ..." if count > len(self.examples[kind]) else ""
            lines.append(f"{count} {kind}: {', '.join(self.examples[kind])}{more}")
        return "\n".join(lines)
