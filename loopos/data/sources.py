"""The data arguments of train, opened and checked: objects that the loop asks for batches.

Reading files and texts is in ``loopos.data.reading``, batches of a stream or of a user's object in
``loopos.data.batches``, those of examples in ``loopos.data.examples``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from loopos import checks
from loopos.text import Tokenizer

from .batches import DatasetSource, TokenStream
from .examples import labelled, pairs
from .examples.audit import LabelAudit
from .examples.audit import of_examples as audit_of
from .examples.encoding import end_of_text
from .examples.listed import HeldOutRows, ListedRows
from .examples.rows import ExampleRows, Examples, HeldOutExamples
from .held_out import HeldOut
from .reading import Source, examine, read, require_length, to_ids
from .tokenizer import resolve
from .vocabulary import require_room


class Sources(NamedTuple):
    """train has batch(step, micro), steps_per_epoch and fingerprint(); eval yields batches when iterated, or is None;
    tokenizer is an object, or None when nothing was text and none was given."""

    train: TokenStream | DatasetSource | ExampleRows | ListedRows
    eval: HeldOut | DatasetSource | HeldOutExamples | HeldOutRows | None
    tokenizer: Any


def open_sources(
    data: Any,
    eval_data: Any = None,
    *,
    tokenizer: Any = None,
    own: Callable[[], Any] = lambda: None,
    vocab_size: int,
    context_length: int,
    seq_len: int | None = None,
    batch_size: int = 12,
    grad_accum: int = 1,
    seed: int = 1337,
    eval_tokens: int | None = None,
    mask_prompt: bool = True,
    pack: bool = True,
    task: str = "lm",
    label_column: str = "label",
    labels: Sequence[str] = (),
    progress: bool = False,
    ranks: Any = None,
) -> Sources:
    """The data arguments of train, checked: lengths and the range of every id too. See API of train for the forms.
    own: gives the model's own tokenizer, asked for only where a text must be read and ``tokenizer`` is None; progress:
    a bar while a large file of examples is turned into tokens; ranks: the processes that open the same data at the same
    time (loopos.distributed), and share that work out; labels: the classes that the model has already.

    With "chars" the vocabulary is made from data and eval_data together, so that a character which only the held-out
    part has can still be scored. The held-out files of a folder of examples are eval_data, unless others are given."""
    length = context_length if seq_len is None else checks.count("train", "seq_len", seq_len)
    checks.count("train", "batch_size", batch_size)
    checks.count("train", "grad_accum", grad_accum)
    checks.integer("train", "seed", seed, low=0, high=2**64 - 1)
    source = read(data, "data", ranks)
    if eval_data is None and source.is_examples:
        eval_data = source.value.held_out()
    held_out = None if eval_data is None else read(eval_data, "eval_data", ranks)
    given = [s for s in (source, held_out) if s is not None]
    if not all(s.is_dataset for s in given) and length > context_length:
        raise ValueError(f"train: seq_len must be at most context_length {context_length}, got {length}")
    if (source.is_text or source.is_ids) and len(source.value) == 0:  # before "chars" looks for a vocabulary in it
        require_length(source, 0, length)
    read_by_tokenizer = any(s.is_text or s.is_examples for s in given)
    tokenizer = own() if tokenizer is None and read_by_tokenizer else tokenizer
    for each in given:
        examine(each, tokenizer)
    made = _resolve(tokenizer, [s for s in given if s.is_text], read_by_tokenizer, ranks)
    if isinstance(made, Tokenizer):
        require_room(made, vocab_size)

    if task != "lm":
        require_examples(given, task)
        batches = {"seq_len": length, "batch_size": batch_size}
        order = {"grad_accum": grad_accum, "seed": seed}
        columns = {"column": label_column, "labels": labels}
        return _of_task(task, source, held_out, made, batches, order, columns, eval_tokens)
    opened = _Opened(made, length, vocab_size, context_length, batch_size, mask_prompt, pack, progress, ranks)
    train = opened.train(source, grad_accum, seed)
    return Sources(train, None if held_out is None else opened.eval(held_out, eval_tokens), made)


class _Opened(NamedTuple):
    """What both kinds of data are opened with."""

    tokenizer: Any
    seq_len: int
    vocab_size: int
    context_length: int
    batch_size: int
    mask_prompt: bool
    pack: bool
    progress: bool
    ranks: Any = None

    def train(self, source: Source, grad_accum: int, seed: int) -> TokenStream | DatasetSource | ExampleRows:
        if source.is_dataset:
            return DatasetSource(source.value, vocab_size=self.vocab_size, context_length=self.context_length)
        shape = {"batch_size": self.batch_size, "grad_accum": grad_accum, "seed": seed}
        if source.is_examples:
            examples, audit = self._examples(source)
            return ExampleRows(examples, packed=self.pack, audit=audit, **shape)
        ids = to_ids(source, self.tokenizer, self.ranks)
        require_length(source, len(ids), self.seq_len)
        shape |= {"seq_len": self.seq_len, "vocab_size": self.vocab_size}
        return TokenStream(ids, name=source.name, **shape)

    def eval(self, source: Source, tokens: int | None) -> HeldOut | DatasetSource | HeldOutExamples:
        kwargs = {"vocab_size": self.vocab_size, "context_length": self.context_length}
        if source.is_dataset:
            dataset = DatasetSource(source.value, name="eval_data", tokens=tokens, **kwargs)
            if dataset.steps_per_epoch is None:
                raise ValueError("eval_data: a dataset to evaluate on needs len() = number of batches, got one without")
            return dataset
        if source.is_examples:
            examples, _ = self._examples(source)
            return HeldOutExamples(examples, packed=self.pack, batch_size=self.batch_size, tokens=tokens)
        ids = to_ids(source, self.tokenizer, self.ranks)
        if source.maybe_path:  # a short text is legal here, a mistyped path is not
            require_length(source, len(ids), self.seq_len)
        shape = {"seq_len": self.seq_len, "batch_size": self.batch_size, "tokens": tokens}
        return HeldOut(ids, vocab_size=self.vocab_size, name=source.name, **shape)

    def _examples(self, source: Source) -> tuple[Examples, LabelAudit]:
        """Examples with something to learn, each id in range; else ValueError and IndexError."""
        end = end_of_text(self.tokenizer)
        examples = Examples(
            source.value.stores(self.tokenizer, progress=self.progress, ranks=self.ranks),
            seq_len=self.seq_len,
            mask_prompt=self.mask_prompt,
            part=source.value.part,
            end=end[0] if end else None,
            name=source.name,
        )
        if self.ranks is not None and self.ranks.size > 1:
            examples.count(self.ranks)
        examples.check_ids(self.vocab_size, self.ranks)
        audit = audit_of(examples, self.tokenizer)
        audit.require_labels(source.name)
        return examples, audit


def _of_task(
    task: str,
    source: Source,
    held_out: Source | None,
    tokenizer: Any,
    batches: dict[str, Any],
    order: dict[str, Any],
    columns: dict[str, Any],
    eval_tokens: int | None,
) -> Sources:
    """Rows of pairs, or of texts with a label."""
    length = batches["seq_len"]
    if task == "dpo":
        found = pairs.read(source.value, tokenizer, seq_len=length)
        train = ListedRows(found.groups, found.places, kind="pairs", about={"cut": found.cut}, **batches, **order)
        if held_out is None:
            return Sources(train, None, tokenizer)
        return Sources(
            train,
            HeldOutRows(pairs.read(held_out.value, tokenizer, seq_len=length).groups, tokens=eval_tokens, **batches),
            tokenizer,
        )
    told = labelled.read(source.value, tokenizer, seq_len=length, **columns)
    train = ListedRows(
        told.groups, told.places, kind="labelled", about={"labels": list(told.labels)}, **batches, **order
    )
    scored = told
    if held_out is not None:
        scored = labelled.read(held_out.value, tokenizer, seq_len=length, **columns | {"labels": told.labels})
    return Sources(train, HeldOutRows(scored.groups, tokens=eval_tokens, **batches), tokenizer)


def require_examples(given: Sequence[Source], task: str) -> None:
    """TypeError for data of which a task cannot be learned."""
    for source in given:
        if not source.is_examples:
            forms = {"dpo": pairs.EXPECTED, "classify": labelled.EXPECTED}
            raise TypeError(
                f"{source.name}: task={task!r} learns of examples: a .jsonl, .csv or .parquet file, a folder with "
                f"train.jsonl, or a list of objects such as {forms[task]}, got {checks.shown(source.value)}"
            )


def _resolve(spec: Any, texts: list[Source], needed: bool, ranks: Any) -> Any:
    if spec is None and not needed:
        return None
    wanted = isinstance(spec, str) and spec == "chars" and bool(texts)
    return resolve(spec, "".join(text.characters(ranks) for text in texts) if wanted else None)
