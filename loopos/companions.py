"""What goes along with a model besides its weights: the other files of its folder, its tokenizer, and the record of
the run that trained it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from loopos import hf
from loopos.config import ModelConfig
from loopos.data.tokenizer import resolve, tokenizer_to_dict
from loopos.data.vocabulary import require_room
from loopos.generation.special import ends
from loopos.saved import tokenizer_of
from loopos.text import Tokenizer


class Companions:
    """The part of a Model that holds them."""

    config: ModelConfig
    _source: hf.Source | None = None  # of the Hugging Face folder that it came from
    _tokenizer: Any = None  # made when it is first asked for
    _written: Any = None  # what the files of _source say of it besides its tokens
    _reads_by: Any = None  # what the state of a run says of its tokenizer
    _record: Any  # see Weighted

    def accompany(self, source: hf.Source | None, reads_by: Any = None, record: Any = None) -> None:
        """source: of the folder or run that it came from; reads_by and record: what that run says of its tokenizer and
        of itself."""
        self._source, self._reads_by, self._record = source, reads_by, record

    @property
    def record(self) -> dict[str, Any] | None:
        """What loopos.train did to the weights, in plain numbers (``loopos.run.record``): None of a model that it never
        trained, and of one whose weights were loaded since."""
        return self._record.to_dict() if hasattr(self._record, "to_dict") else self._record

    @property
    def source(self) -> hf.Source | None:
        """The other files of the Hugging Face folder that it came from, those of its tokenizer as it is now."""
        made = self._tokenizer
        if isinstance(made, Tokenizer) and self._written != (made.config, made.templates):  # a template was set since
            self._source = (self._source or hf.Source({})).with_files_of(made)
            self._note(made)
        return self._source

    def inherit(self, run: Path) -> None:
        """Take over the source that the folder of a run keeps, unless this model has one."""
        self._source = self._source or hf.Source.kept(run)

    @property
    def tokenizer(self) -> Any:
        """What turns text into the ids of this model: of the folder or run that it came from, or the one that it was
        trained with; None when there is none. It is saved with the model. Assigning another one replaces it; more
        tokens than vocab_size: ValueError. A chat template that is set on it is saved too."""
        if self._tokenizer is None:
            self._tokenizer = self._fitting(tokenizer_of(self._reads_by, self._source))
            self._note(self._tokenizer)
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        made = self._fitting(resolve(tokenizer))
        if isinstance(made, Tokenizer) or self._source is not None:
            self._source = (self._source or hf.Source({})).with_tokenizer(made)
        self._tokenizer = made
        self._note(made)

    def _note(self, tokenizer: Any) -> None:
        """That the files of _source are those of this tokenizer."""
        if isinstance(tokenizer, Tokenizer):
            self._written = copy.deepcopy((tokenizer.config, tokenizer.templates))

    def _fitting(self, tokenizer: Any) -> Any:
        if isinstance(tokenizer, Tokenizer):
            require_room(tokenizer, self.config.vocab_size)
        return tokenizer

    @property
    def stop_ids(self) -> list[int]:
        """The ids that end a text or an answer: see :func:`loopos.generation.special.ends`."""
        return list(ends(self, self.tokenizer))

    @stop_ids.setter
    def stop_ids(self, ids: list[int]) -> None:
        said = ids[0] if len(ids) == 1 else ids or None
        self._source = (self.source or hf.Source({})).with_generation(eos_token_id=said)

    def reads_with(self, tokenizer: Any) -> None:
        """Have ``tokenizer``, unless it is what :attr:`tokenizer` is already."""
        if tokenizer_to_dict(tokenizer) != tokenizer_to_dict(self.tokenizer):
            self.tokenizer = tokenizer
