"""loopos/data/batches.py: which tokens every update sees, and the checks before the first."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopos import data
from loopos.data import order
from loopos.data.batches import TokenStream, check_batch
from loopos.data.order import permutation
from loopos.data.sources import open_sources

MASK = 2**64 - 1


def philox4x64(counter, key):
    """Philox4x64-10 after the paper (Salmon et al., SC 2011), in Python integers."""
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = ((p1 >> 64) ^ counter[1] ^ k0, p1 & MASK, (p0 >> 64) ^ counter[3] ^ k1, p0 & MASK)
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return counter


def test_the_reference_gives_the_published_vectors():
    """Known answers of Random123 for philox4x64 of ten rounds."""
    zero = (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)
    ones = (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0)
    assert philox4x64((0, 0, 0, 0), (0, 0)) == zero
    assert philox4x64((MASK,) * 4, (MASK, MASK)) == ones


@pytest.mark.parametrize("count", [0, 1, 2, 7, 50])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1337, 0), (1337, 1), (MASK, 12345)])
def test_the_order_is_the_documented_one(count, seed, epoch):
    keys = [k for c in range(1, count // 4 + 2) for k in philox4x64((c, 0, 0, 0), (seed, epoch))][:count]
    assert permutation(count, seed, epoch).tolist() == sorted(range(count), key=lambda i: (keys[i], i))


def test_the_order_of_this_version_stays():
    """Changing these numbers breaks exact resume of older checkpoints."""
    assert permutation(12, 1337, 0).tolist() == [2, 4, 5, 6, 9, 7, 10, 11, 3, 8, 0, 1]
    assert permutation(12, 1337, 1).tolist() == [8, 3, 7, 9, 0, 1, 6, 5, 11, 10, 2, 4]


def test_every_order_of_three_comes_up_equally():
    counts = np.bincount([int("".join(map(str, permutation(3, 7, e))), 3) for e in range(1200)], minlength=27)
    counts = counts[counts > 0]
    assert len(counts) == 6
    assert ((counts - 200) ** 2 / 200).sum() < 20.5  # chi-squared, 5 degrees of freedom: p = 0.001


def stream(n=101, **changes):
    return TokenStream(np.arange(n), **{"seq_len": 10, "batch_size": 3, "vocab_size": n, **changes})


def starts(source, steps, accum=1):
    """The first id of every row, in order: with ids 0..N-1 that is T times the window."""
    return np.concatenate([source.batch(s, m)[0][:, 0] for s in range(steps) for m in range(accum)])


def test_targets_are_the_next_token():
    ids, targets = stream().batch(4)
    assert ids.dtype == targets.dtype == np.int64
    assert ids.shape == targets.shape == (3, 10)
    assert ids.flags.c_contiguous
    assert targets.flags.c_contiguous
    assert (targets == ids + 1).all()
    assert (ids == ids[:, :1] + np.arange(10)).all()


@given(
    n=st.integers(2, 80),
    seq_len=st.integers(1, 12),
    batch_size=st.integers(1, 30),
    accum=st.integers(1, 4),
    seed=st.integers(0, MASK),
)
def test_epochs_are_laid_end_to_end(n, seq_len, batch_size, accum, seed):
    if n <= seq_len:
        n += seq_len
    source = stream(n, seq_len=seq_len, batch_size=batch_size, grad_accum=accum, seed=seed)
    windows = (n - 1) // seq_len
    assert source.windows == windows
    assert source.steps_per_epoch == -(-windows // (batch_size * accum))
    seen = starts(source, 2 * source.steps_per_epoch, accum) // seq_len
    assert len(seen) == 2 * source.steps_per_epoch * batch_size * accum  # every batch is full
    for epoch in range(-(-len(seen) // windows)):
        part = seen[epoch * windows : (epoch + 1) * windows]
        assert part.tolist() == permutation(windows, seed, epoch)[: len(part)].tolist()


def test_an_epoch_is_every_window_once():
    source = stream(1001, batch_size=4, grad_accum=5)
    seen = starts(source, 5, 5)
    assert sorted(seen.tolist()) == list(range(0, 1000, 10))
    assert seen.tolist() != sorted(seen.tolist())
    assert starts(source, 10, 5)[100:].tolist() != seen.tolist()  # the next epoch has another order


def test_the_order_depends_on_the_seed_and_not_on_the_batch():
    base = starts(stream(1001, batch_size=10), 10).tolist()
    assert starts(stream(1001, batch_size=10, seed=1338), 10).tolist() != base
    assert starts(stream(1001, batch_size=5, grad_accum=2), 10, 2).tolist() == base
    assert starts(stream(1001, batch_size=1), 100).tolist() == base


def test_a_batch_is_a_pure_function_of_its_arguments():
    asked = [(0, 0), (9, 1), (3, 0), (1000, 1), (3, 0), (0, 0), (9, 1), (2, 1)]
    source = stream(grad_accum=2)
    for step, micro in asked:
        fresh = stream(grad_accum=2)
        for got, expected in zip(source.batch(step, micro), fresh.batch(step, micro), strict=True):
            assert np.array_equal(got, expected)
            got[:] = -7  # what a caller does to a batch does not reach the data


def test_more_batch_than_windows():
    ids, _ = stream(21, batch_size=7).batch(0)
    assert sorted(ids[:2, 0].tolist()) == sorted(ids[2:4, 0].tolist()) == sorted(ids[4:6, 0].tolist()) == [0, 10]
    assert stream(21, batch_size=7).steps_per_epoch == 1


def test_one_window_exactly():
    ids, targets = stream(11, batch_size=2).batch(5)
    assert ids.tolist() == [list(range(10))] * 2
    assert targets.tolist() == [list(range(1, 11))] * 2


def test_steps_far_out_and_wrong_steps():
    assert stream().batch(2**40)[0].shape == (3, 10)
    for step, micro in ((-1, 0), (0, 1), (0, -1)):
        with pytest.raises(ValueError, match=f"got step {step}, micro {micro}"):
            stream().batch(step, micro)


def test_short_streams_give_both_numbers():
    for n in (0, 1, 10):
        with pytest.raises(ValueError, match=f"data: {n} tokens are too few for seq_len 10, which needs at least 11"):
            stream(n, vocab_size=100)


def test_stream_settings():
    for name in ("seq_len", "batch_size", "grad_accum"):
        for value, error in ((0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError), ("2", TypeError)):
            with pytest.raises(error, match=f"train: {name} must be an integer of at least 1"):
                stream(**{name: value})
    for value, error in ((-1, ValueError), (2**64, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="train: seed must be an integer from 0 to"):
            stream(seed=value)
    with pytest.raises(IndexError, match=r"data: id 100 at position 100 is outside 0\.\.99"):
        stream(vocab_size=100)


def test_a_mapped_file_gives_the_same_batches(tmp_path):
    values = np.random.default_rng(0).integers(0, 60000, 1_000_000).astype("<u2")
    values.tofile(tmp_path / "tokens.bin")
    settings = {"vocab_size": 60000, "context_length": 64}
    mapped = open_sources(tmp_path / "tokens.bin", **settings).train
    plain = open_sources(values.astype(np.int64), **settings).train
    for step in (0, 1, 1301, 1302, 1303):  # the epoch ends in step 1302
        for a, b in zip(mapped.batch(step), plain.batch(step), strict=True):
            assert np.array_equal(a, b)
            assert type(a) is np.ndarray
    assert mapped.fingerprint() == plain.fingerprint()


def test_the_order_is_computed_once_an_epoch(monkeypatch):
    asked = []
    monkeypatch.setattr(order, "permutation", lambda n, *key: asked.append(key[-1]) or permutation(n, *key))
    starts(stream(101, grad_accum=2), 10, 2)  # 60 rows over epochs of 10 windows; batches of 3 cross the borders
    assert asked == [0, 1, 2, 3, 4, 5]


def good(dtype=np.int64):
    return np.array([[0, 1, 2], [3, 4, 0]], dtype), np.array([[1, -100, 4], [4, 0, -100]], dtype)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_check_batch_passes_what_is_right(dtype):
    for a, b in zip(check_batch(*good(dtype), 5, 3), good(), strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == np.int64
    ids, targets = check_batch(*(x.T for x in good()), 5, 2)
    assert ids.flags.c_contiguous
    assert np.array_equal(targets, good()[1].T)
    assert check_batch(np.zeros((0, 3), int), np.zeros((0, 3), int), 5, 3)[0].shape == (0, 3)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("value", [5, -1, -101, 2**40])
def test_check_batch_finds_the_first_bad_value(which, value):
    pair = good()
    pair[which][1, 1:] = [value, 77]
    name = ("ids", "targets")[which]
    with pytest.raises(IndexError, match=rf"here: {name}\[1, 1\] = {value} is .*0\.\.4"):
        check_batch(*pair, 5, 3, "here")


def test_minus_100_is_no_id():
    ids, targets = good()
    with pytest.raises(IndexError, match=r"batch: ids\[0, 1\] = -100 is outside 0\.\.4"):
        check_batch(targets, ids, 5, 3)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("make", [lambda x: x.astype(float), lambda x: x > 0, lambda x: x.tolist(), lambda x: None])
def test_check_batch_types(which, make):
    pair = list(good())
    pair[which] = make(pair[which])
    with pytest.raises(TypeError, match=f"batch: {('ids', 'targets')[which]} must be a numpy array of integers, got"):
        check_batch(*pair, 5, 3)


def test_check_batch_shapes():
    ids, targets = good()
    with pytest.raises(ValueError, match=r"ids must have shape \(B, T\), got \(6,\)"):
        check_batch(ids.ravel(), targets, 5, 3)
    with pytest.raises(ValueError, match=r"targets must have shape \(B, T\), got \(1, 2, 3\)"):
        check_batch(ids, targets[None], 5, 3)
    with pytest.raises(ValueError, match=r"targets must have the shape of ids \(2, 3\), got \(2, 2\)"):
        check_batch(ids, targets[:, :2], 5, 3)
    with pytest.raises(ValueError, match=r"T must be from 1 to context_length 2, got shape \(2, 3\)"):
        check_batch(ids, targets, 5, 2)
    with pytest.raises(ValueError, match=r"T must be from 1 to context_length 3, got shape \(2, 0\)"):
        check_batch(ids[:, :0], targets[:, :0], 5, 3)


def test_the_public_names_exist():
    for name in data.__all__:
        thing = getattr(data, name)
        assert inspect.isfunction(thing) or inspect.isclass(thing) or name == "IGNORE"
