"""Tokenizers for the tests of loopos/text."""

import pytest

TEXT = "the miller had three sons, his mill, his ass, and his cat. ünïcödé 你好 😀\n" * 20


@pytest.fixture
def made():
    """A byte-level BPE of the tokenizers package that puts <eos> behind a text when special tokens are asked for."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [hf]")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<eos>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 0)]
    )
    return tokenizer
