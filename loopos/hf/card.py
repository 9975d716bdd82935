"""The model card (README.md) of a model that LoopOS trained: what the record of its run says, and nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

README = "README.md"
_MARK = "<!-- written by LoopOS; replaced while unchanged: {} -->\n"
_MARKED = re.compile(rb"<!-- written by LoopOS; replaced while unchanged: ([0-9a-f]{64}) -->\n")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")  # what Hugging Face takes for the name of a model
_MAX_BYTES = 1 << 20


def replaceable(path: Path) -> bool:
    """Whether ``path`` may be written: nothing is there, or a card that nobody has changed since."""
    if not path.exists() and not path.is_symlink():
        return True
    try:
        if path.stat().st_size > _MAX_BYTES:
            return False
        content = path.read_bytes()
    except OSError:
        return False
    marks = _MARKED.findall(content)
    return len(marks) == 1 and hashlib.sha256(_MARKED.sub(b"", content)).hexdigest().encode() == marks[0]


def card(record: Mapping[str, Any], settings: Mapping[str, Any]) -> bytes:
    """record: of :class:`loopos.run.record.Record`; settings: config.json of the folder."""
    base = settings.get("_name_or_path") or None
    named = base if isinstance(base, str) and _REPOSITORY.fullmatch(base) else None
    front = ["library_name: transformers", "pipeline_tag: text-generation"]
    front += [f"base_model: {named}"] if named else []
    front += ["tags:", "- loopos", f"- {settings['model_type']}"]
    text = "\n\n".join([*_about(record, settings, named), *_training(record), *_results(record), _USE])
    head = "---\n" + "\n".join(front) + "\n---\n"
    body = (head + text + "\n").encode()
    mark = _MARK.format(hashlib.sha256(body).hexdigest()).encode()
    return head.encode() + mark + body[len(head.encode()) :]


_USE = """## How to open it

```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("PATH_OF_THIS_FOLDER")
```

```python
import loopos

model = loopos.Model.from_pretrained("PATH_OF_THIS_FOLDER")
```

## What is not known

This card is made of the record of the training run. What the data contain, what the model may be used for, under which
license, and how it does on anything but the losses above, the record does not say."""


def _about(record: Mapping[str, Any], settings: Mapping[str, Any], named: str | None) -> list[str]:
    base = f"The weights before are those of {named}." if named else "config.json names no model that it started from."
    size = f"a model of the {settings['model_type']} family with {record['parameters']:,} parameters"
    trained = f"This is {size}, trained by LoopOS {record['loopos']} on a CPU. {base}"
    earlier, at = [], record.get("before")
    while at:
        earlier.append(f"- {at['step']:,} updates, {at['valid_tokens']:,} tokens learned; data {_data(at['data'])}")
        at = at.get("before")
    told = (
        ["Before that, LoopOS trained it in other runs, the latest first:\n\n" + "\n".join(earlier)] if earlier else []
    )
    return ["# Model card", trained, *told]


def _data(data: Mapping[str, Any]) -> str:
    digest = f", SHA-256 of the ids {data['sha256']}" if data.get("sha256") else ""
    length = f"{data['length']:,}" if isinstance(data.get("length"), int) else "an unknown number of"
    return f"{length} {'tokens' if data.get('kind') == 'tokens' else 'batches'}{digest}"


def _training(record: Mapping[str, Any]) -> list[str]:
    tokenizer = (record.get("tokenizer") or {}).get("kind", "none: the data were ids")
    data = f"- data: {_data(record['data'])}\n- tokenizer: {tokenizer}"
    done = f"- updates: {record['step']:,}\n- tokens learned, repetitions counted: {record['valid_tokens']:,}"
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in sorted(record["settings"].items()))
    computed = f"\n- {_computed(record)}" if "products" in record else ""
    return ["## Training", f"{data}\n{done}{computed}", f"| setting | value |\n|---|---|\n{rows}"]


def _computed(record: Mapping[str, Any]) -> str:
    earlier = record.get("products_before")
    before = f"; before a resume with {', '.join(earlier)}" if earlier else ""
    asked = f"arithmetic: {record['dtype']}, products of precision {record['precision']}"
    return f"{asked}, computed with {record['products']}{before}"


def _cell(value: Any) -> str:
    return "none" if value is None else str(value).replace("|", "\\|")


def _results(record: Mapping[str, Any]) -> list[str]:
    losses, rows = record["losses"], []
    for name, words in (("loss", "training"), ("eval_loss", "held-out")):
        if f"first_{name}" in losses:
            first, last = (losses[f"{which}_{name}"] for which in ("first", "last"))
            rows.append(f"| {words} | {_loss(first)} | {_loss(last)} |")
    table = (
        "| loss, nats a token | first | last |\n|---|---|---|\n" + "\n".join(rows) if rows else "No loss was logged."
    )
    if "first_eval_loss" not in losses:
        table += "\n\nNothing was held out: how the model does on text that it did not learn was not measured."
    verdict = record.get("verdict")
    judged = (
        f"Verdict on the history of the last call of `train`: {verdict['kind']}: {verdict['says']}" if verdict else ""
    )
    count, kept = record["findings_in_all"], record["findings"]
    more = f"\n- and {count - len(kept)} more" if count > len(kept) else ""
    found = "The monitor found nothing implausible."
    if count:
        found = f"The monitor found {count} implausible:\n\n" + "\n".join(f"- {each}" for each in kept) + more
    return ["## What came of it", table, *([judged] if judged else []), found]


def _loss(point: Mapping[str, Any]) -> str:
    value = "not finite" if point["value"] is None else f"{point['value']:.4f}"
    return f"{value} (update {point['step']:,})"
