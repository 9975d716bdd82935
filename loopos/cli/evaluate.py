"""``loopos eval``: how good a model is, by a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks
from loopos.data.batches import HeldOut
from loopos.data.reading import fingerprint, load_ids, train_eval_split
from loopos.run.updates import evaluate as mean_loss

from . import folders, options, origin, reader
from .common import in_words, perplexity, use_threads
from .reply import Reply

EVAL = """Print the mean loss of the model in FOLDER over TEXT, every token but the first predicted once. Without
TEXT, over what `loopos train` held out of the text it learned.

  loopos eval runs/novel
  loopos eval runs/novel other.txt"""


def evaluate(given: dict[str, Any]) -> Reply:
    loaded = folders.load(given["folder"])
    use_threads(given)
    config = loaded.model.config
    for name in ("batch_size", "seq_len"):
        if name in given:
            checks.integer("eval", name, given[name], low=1)
    if "held_out" in given:
        checks.real("eval", "held_out", given["held_out"], above=0, below=1)
    ids, what = _to_score(given, loaded)
    batches = HeldOut(
        ids,
        seq_len=given.get("seq_len", config.context_length),
        batch_size=given.get("batch_size", options.TRAIN_DEFAULTS["batch_size"]),
        vocab_size=config.vocab_size,
        name="eval",
    )
    loss, count = mean_loss(loaded.model, batches)
    told = {"metric": "perplexity", "loss": loss, "perplexity": perplexity(loss), "tokens": count, "data": what}
    return Reply(told, f"loss {in_words(loss)} over {count} tokens: {what}")


def _to_score(given: dict[str, Any], loaded: folders.Loaded) -> tuple[np.ndarray, str]:
    """The ids to score, and what they are in words: of TEXT, else of what the run's origin says was not learned."""
    folder, text, share, asked = given["folder"], given.get("text"), given.get("held_out"), given.get("tokenizer")
    learned = None
    if text is None:
        learned = origin.Origin.read(folder)
        if learned is None:
            raise ValueError(f"{folder} does not say what it was trained on; pass the TEXT to score")
        text = learned.eval_data or learned.text
        if share is None and learned.eval_data is None:
            if learned.held_out == 0:
                raise ValueError(f"nothing was held out of {origin.named(text)}; pass the TEXT to score, or --held-out")
            share = learned.held_out
        if text != origin.DEFAULT and not Path(text).exists():
            raise ValueError(f"{text}, which goes with {folder}, is gone; pass the TEXT to score")
    tokenizer = None if reader.holds_ids(text) else reader.reader(folder, loaded, asked)
    ids, _ = load_ids(origin.source(text) if learned else Path(text), "bytes" if asked == "bytes" else tokenizer)
    if share is None:
        return ids, origin.named(text)
    rest, ids = train_eval_split(ids, share)
    known = learned and text == learned.text and share == learned.held_out
    if known and fingerprint(rest) != loaded.state["data"]:  # what is now at the end may have been learned
        raise ValueError(f"{origin.named(text)}: not what {folder} was trained on any more; pass the TEXT to score")
    return ids, f"the last {share:g} of {origin.named(text)}"
