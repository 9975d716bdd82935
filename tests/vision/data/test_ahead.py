"""Work done ahead: the same results in the same order, a bounded amount of it."""

from __future__ import annotations

import threading

import pytest

from loopos.vision.data.ahead import Ahead, mapped


def test_results_come_in_order_and_few_wait():
    made = []
    results = mapped(lambda i: made.append(i) or i * i, range(50), workers=3, window=4)
    assert next(results) == 0
    assert len(made) <= 5
    assert list(results) == [i * i for i in range(1, 50)]


def test_an_error_is_raised_where_its_result_stands():
    results = mapped(lambda i: 10 // (2 - i), range(5), workers=2)
    assert [next(results), next(results)] == [5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_the_next_ones_are_made_while_one_is_used():
    event, made = threading.Event(), []

    def make(number):
        made.append(number)
        if number == 2:
            event.set()
        return number * 10

    ahead = Ahead(make, 2, 2)
    assert ahead.take(0) == 0
    assert event.wait(30)
    assert sorted(made) == [0, 1, 2]
    assert [ahead.take(n) for n in (1, 2, 3)] == [10, 20, 30]
    assert [ahead.take(n) for n in (9, 4, 4, 5)] == [90, 40, 40, 50]
    assert len(ahead._waiting) <= 2
    ahead.close()
    assert ahead.take(7) == 70
    ahead.close()


def test_without_threads_nothing_is_made_ahead():
    made = []
    assert Ahead(lambda n: made.append(n) or n, 0, 2).take(3) == 3
    assert made == [3]


def test_an_error_reaches_the_one_who_asks():
    ahead = Ahead(lambda n: 1 // (n - 1), 2, 1)
    assert ahead.take(0) == -1
    with pytest.raises(ZeroDivisionError):
        ahead.take(1)
    assert ahead.take(2) == 1
    ahead.close()
