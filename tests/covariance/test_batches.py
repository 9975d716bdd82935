"""Batches of simulations and samples: pure functions of the step, and what their truth is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from snapshots import small

from loopos.covariance import ULA, Samples, Simulation
from loopos.covariance.batches import HELD_OUT, as_complex, open_samples, parted, truth_of

LINE = Simulation(ULA(5), sources=(1, 2), snr=3.0, snapshots=6, seed=4)


def opened(data, eval_data=None, **changes):
    return open_samples(small(), data, eval_data, **{"batch_size": 3, "grad_accum": 2, "seed": 1, **changes})


def test_a_batch_is_a_function_of_step_and_micro_and_simulations_take_turns():
    source = opened([LINE, replace(LINE, snapshots=9)]).train
    first, second = source.batch(1, 0), source.batch(1, 1)
    assert (first[0].shape, second[0].shape) == ((3, 6, 5, 2), (3, 9, 5, 2))
    want = LINE.samples(3, 3)
    np.testing.assert_array_equal(as_complex(first[0], "complex64"), want.snapshots.astype("complex64"))
    np.testing.assert_array_equal(first[1], want.sources)
    again = opened([LINE, replace(LINE, snapshots=9)]).train
    assert all(np.array_equal(a, b) for a, b in zip(first, again.batch(1, 0), strict=True))
    assert source.fingerprint() == again.fingerprint() != opened(LINE).train.fingerprint()
    assert source.steps_per_epoch is None


def test_rows_of_a_batch_are_made_alone():
    for data in ([LINE, replace(LINE, snapshots=9)], LINE.samples(0, 8)):
        source = opened(data).train
        for first, last in ((0, 2), (2, 3), (1, 1)):
            whole = source.batch(2, 1)
            for got, want in zip(source.part(2, 1, first, last), whole, strict=True):
                np.testing.assert_array_equal(got, want[first:last])
                assert got.dtype == want.dtype


def test_the_truth_of_independent_sources_is_their_covariance_and_of_coherent_ones_that_of_independent_ones():
    given = LINE.samples(0, 8)
    np.testing.assert_allclose(truth_of(given), given.covariance, atol=1e-12)
    coherent = replace(LINE, correlation=1.0).samples(0, 8)
    np.testing.assert_allclose(truth_of(coherent), given.covariance, atol=1e-12)
    assert np.abs(coherent.covariance - given.covariance).max() > 1
    bare = Samples(LINE.array, given.snapshots, given.directions, given.sources, covariance=given.covariance)
    assert truth_of(bare) is given.covariance
    with pytest.raises(ValueError, match="neither powers, covariances nor snapshots"):
        truth_of(replace(bare, covariance=None, snapshots=None))


def test_what_stands_in_the_padding_makes_no_difference_to_the_truth():
    given = LINE.samples(0, 8)
    assert set(given.sources) == {1, 2}
    alone = given.sources == 1
    directions, powers = given.directions.copy(), given.source_covariance.copy()
    assert np.isnan(directions[alone, 1]).all()
    directions[alone, 1], powers[alone, 1, 1] = 0.4, 7.0
    other = replace(given, directions=directions, source_covariance=powers)
    np.testing.assert_array_equal(truth_of(other), truth_of(given))
    directions[~alone, 1] = np.nan
    with pytest.raises(ValueError, match="directions"):
        truth_of(replace(given, directions=directions))


@pytest.mark.parametrize(("factor", "said"), [(0, "is 0, and"), (1e-30, "e-30"), (1e40, "e\\+40"), (np.nan, "is nan")])
def test_a_sample_that_cannot_be_learned_from_is_named_before_the_run(factor, said):
    given = LINE.samples(0, 8)
    given.snapshots[5] *= factor
    with pytest.raises(ValueError, match=f"eval_data: the largest amplitude of sample 5 .*{said}"):
        opened(LINE, given)
    with pytest.raises(ValueError, match="data have no snapshots"):
        opened(replace(given, snapshots=given.snapshots[:, :0]))
    with pytest.raises(TypeError, match="covariances alone"):
        opened(replace(given, snapshots=None))


def test_the_truth_of_files_is_estimated_from_snapshots_and_directions():
    given = replace(LINE, snapshots=20_000).samples(0, 4)
    bare = Samples(LINE.array, given.snapshots, given.directions, given.sources)
    np.testing.assert_allclose(truth_of(bare), truth_of(given), atol=0.2)


def test_samples_are_parted():
    given = LINE.samples(0, 10)
    learned, kept = parted(given, 0.3)
    assert (len(learned), len(kept)) == (7, 3)
    np.testing.assert_array_equal(kept.snapshots, given.snapshots[7:])
    np.testing.assert_array_equal(learned.directions, given.directions[:7])
    assert parted(given, 0.0) == (given, None)


def test_what_is_held_out_is_never_trained_on_and_always_the_same():
    sources = opened(LINE, LINE)
    batches = list(sources.eval)
    assert [len(b[1]) for b in batches] == [3] * 21 + [1]
    want = LINE.samples(HELD_OUT, 3).snapshots.astype("complex64")
    np.testing.assert_array_equal(as_complex(batches[0][0], "complex64"), want)
    assert not np.array_equal(batches[0][0], sources.train.batch(0)[0])


def test_samples_in_memory_have_epochs():
    given = LINE.samples(0, 8)
    sources = opened(given, given)
    assert sources.train.steps_per_epoch == 2
    seen = np.concatenate([sources.train.batch(step, micro)[0] for step in range(4) for micro in range(2)])
    assert len(np.unique(seen.reshape(24, -1), axis=0)) == 8
    assert [len(b[1]) for b in sources.eval] == [3, 3, 2]
    assert sources.train.fingerprint()["shape"] == [8, 6, 5, 2]


def test_the_length_of_a_sample_is_that_of_its_rows():
    """What a forecast takes memory for: snapshots, or beams."""
    data = [LINE, replace(LINE, snapshots=9)]
    beams = small(prediction="powers", shape=(5,))
    lengths = [open_samples(c, data, None, batch_size=3, grad_accum=1, seed=1).train.seq_len for c in (small(), beams)]
    assert lengths == [9, 5]


def test_what_is_no_data():
    with pytest.raises(TypeError, match="data of a CovarianceNetwork must be a Simulation"):
        opened([LINE, 3])
    with pytest.raises(TypeError, match="eval_data of a CovarianceNetwork"):
        opened(LINE, "folder")
    with pytest.raises(ValueError, match="are of 4 sensors, and the network has elements=5"):
        opened(replace(LINE, array=ULA(4)))
