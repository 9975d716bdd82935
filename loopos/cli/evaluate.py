"""``loopos eval``: how good a model is, by a number."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from loopos import checks
from loopos.data.examples.data import ExampleData
from loopos.data.examples.rows import Examples, HeldOutExamples
from loopos.data.held_out import HeldOut
from loopos.data.reading import fingerprint, load, train_eval_split
from loopos.data.sources import open_sources
from loopos.generation import special
from loopos.scoring.choice import choose
from loopos.scoring.exact import match
from loopos.scoring.examples import read_choices, read_exact
from loopos.scoring.perplexity import window_losses

from . import comparing, folders, options, origin, reader
from .common import in_words, perplexity, use_threads
from .reply import Reply

EVAL = """Print how good the model in FOLDER is on TEXT.

  --metric perplexity  the mean loss, every token but the first predicted once; of examples (.jsonl, .csv, .parquet)
                       that of completions and of the assistant's turns; without TEXT, over what `loopos train` held
                       out of the text it learned
  --metric choice      multiple choice by likelihood, as the lm-evaluation-harness does it: JSON lines of context (or
                       question), choices, answer (index from 0, or letter). Accuracy by summed log-likelihood, and by
                       that over the bytes of the choice
  --metric exact       greedy answers compared with the expected ones: JSON lines of prompt and completion, or of
                       messages. White space counts once. Of a prompt that does not fit the end is read, behind the
                       tokenizer's token for the beginning of a text; how many these were is told

Accuracies have an interval of 95 % (Wilson). With --compare, a table of several models on the same TEXT, with paired
intervals of the differences from the first.

  loopos eval runs/novel
  loopos eval runs/novel other.txt
  loopos eval base questions.jsonl --metric choice --compare runs/tuned"""


def evaluate(given: dict[str, Any]) -> Reply:
    metric = given.pop("metric", "perplexity")
    use_threads(given)
    for name in ("batch_size", "seq_len", "max_new_tokens"):
        if name in given:
            checks.integer("eval", name, given[name], low=1)
    if "held_out" in given:
        checks.real("eval", "held_out", given["held_out"], above=0, below=1)
    _refuse_unused(given, metric)
    models = [given["folder"], *given.pop("compare", ())]
    if len(models) > 1 and "text" not in given:
        raise ValueError("compare needs the file that all the models are scored on; pass it behind FOLDER")
    score = _perplexity if metric == "perplexity" else _answers
    scored = [score(given | {"folder": folder}, metric) for folder in models]
    if len(scored) == 1:
        return Reply(scored[0].told, scored[0].text)
    return comparing.table(models, scored)


def _refuse_unused(given: dict[str, Any], metric: str) -> None:
    """An option that the metric does not read would promise what does not happen."""
    read = {"perplexity": {"batch_size", "seq_len", "held_out"}, "choice": set(), "exact": {"max_new_tokens"}}
    for name in set().union(*read.values()) - read[metric]:
        if name in given:
            raise ValueError(f"{name} is nothing that the metric {metric!r} reads; leave it out")
    if metric != "perplexity" and "text" not in given:
        raise ValueError(f"the metric {metric!r} needs a FILE of JSON lines; pass it behind FOLDER")


def _perplexity(given: dict[str, Any], metric: str) -> comparing.Scored:
    loaded = folders.language_model("eval", given)
    config = loaded.model.config
    data, tokenizer, what = _to_score(given, loaded)
    shape = {
        "seq_len": given.get("seq_len", config.context_length),
        "batch_size": given.get("batch_size", options.TRAIN_DEFAULTS["batch_size"]),
    }
    batches: HeldOut | HeldOutExamples
    if isinstance(data, ExampleData):
        sizes = {"vocab_size": config.vocab_size, "context_length": config.context_length}
        rows = open_sources(
            data._replace(name="eval", valid=()), tokenizer=tokenizer, pack=False, **sizes, **shape
        ).train
        batches, digest = (
            HeldOutExamples(rows.examples, packed=False, batch_size=shape["batch_size"]),
            rows.examples.digest(),
        )
    else:
        batches = HeldOut(data, vocab_size=config.vocab_size, name="eval", **shape)
        digest = hashlib.sha256(np.ascontiguousarray(data, np.int64)).hexdigest()
    found = window_losses(loaded.model, batches)
    told = {
        "metric": metric,
        "loss": found.loss,
        "perplexity": perplexity(found.loss),
        "tokens": found.tokens,
        "data": what,
    }
    unit = digest, shape["seq_len"], found.tokens
    return comparing.Scored(found, told, f"loss {in_words(found.loss)} over {found.tokens} tokens: {what}", unit)


def _answers(given: dict[str, Any], metric: str) -> comparing.Scored:
    path = given["text"]
    examples: Any = read_choices(path) if metric == "choice" else read_exact(path)
    loaded = folders.language_model("eval", given)
    model, tokenizer = loaded.model, reader.reader(given["folder"], loaded, given.get("tokenizer"))
    total = sum(len(each.choices) for each in examples) if metric == "choice" else len(examples)
    with tqdm(total=total, desc="eval", disable=None, leave=False, file=sys.stderr) as bar:  # on a terminal alone
        if metric == "choice":
            found: Any = choose(model, tokenizer, examples, prefix=special.prefix(model, tokenizer), advance=bar.update)
        else:
            new, ends = given.get("max_new_tokens", options.ANSWER_TOKENS), special.ends(model, tokenizer)
            found = match(model, tokenizer, examples, max_new_tokens=new, eos=ends, advance=bar.update)
    lines = [f"accuracy {comparing.share(found.accuracy, found.interval)} of {len(examples)} examples: {path}"]
    if metric == "choice":
        lines.append(f"by bytes {comparing.share(found.accuracy_norm, found.interval_norm)}")
    if found.cut:
        lines.append(f"{found.cut} did not fit the context_length {model.config.context_length}: cut at the front")
    return comparing.Scored(found, found.to_dict() | {"data": path}, "\n".join(lines), len(examples))


def _to_score(given: dict[str, Any], loaded: folders.Loaded) -> tuple[np.ndarray | ExampleData, Any, str]:
    """The ids or examples to score, the tokenizer, and what they are in words: of TEXT, else of what the run's origin
    says was not learned."""
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
    data, made = load(origin.source(text) if learned else Path(text), "bytes" if asked == "bytes" else tokenizer)
    if share is None:
        return data, made, origin.named(text)
    rest, data = train_eval_split(data, share)
    known = learned and text == learned.text and share == learned.held_out
    if known and _digest(rest, made) != loaded.state["data"].get("sha256"):  # what is at the end may have been learned
        raise ValueError(f"{origin.named(text)}: not what {folder} was trained on any more; pass the TEXT to score")
    return data, made, f"the last {share:g} of {origin.named(text)}"


def _digest(data: np.ndarray | ExampleData, tokenizer: Any) -> str:
    """That of the fingerprint which a checkpoint keeps."""
    if isinstance(data, ExampleData):
        return Examples(data.stores(tokenizer), seq_len=1, part=data.part).digest()
    return str(fingerprint(data)["sha256"])
