"""Words that several commands share."""

from __future__ import annotations

import math

import loopos
from loopos.cli.common import in_words, perplexity, use_threads


def test_perplexity_is_told_where_it_says_something():
    assert in_words(1.0) == "1.0000 nats a token (perplexity 2.718)"
    assert in_words(25.0) == "25.0000 nats a token"
    assert perplexity(2.0) == math.exp(2)
    assert perplexity(1000.0) == math.inf


def test_threads_are_set_where_they_are_given(thread_count):
    before = loopos.get_num_threads()
    use_threads({})
    assert loopos.get_num_threads() == before
    given = {"threads": 1, "other": 2}
    use_threads(given)
    assert given == {"other": 2}
    assert loopos.get_num_threads() == 1
