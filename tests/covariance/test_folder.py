"""Files of others: what was written is read back, and every way of being wrong is said with the name of the file."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from loopos.covariance import ULA, URA, Simulation, evaluate, read_samples, sample_covariance

ARRAY = ULA(5)
SAMPLES = Simulation(ARRAY, sources=2, snapshots=9, seed=3).samples(0, 3)


def write(path, **parts):
    np.savez(path, **parts)
    return path


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / "a.npz", snapshots=SAMPLES.snapshots, angles=SAMPLES.directions)


def test_a_file_of_several_samples(good):
    read = read_samples(good, ARRAY)
    np.testing.assert_array_equal(read.snapshots, SAMPLES.snapshots)
    np.testing.assert_array_equal(read.directions, SAMPLES.directions)
    assert read.sources.tolist() == [2, 2, 2]
    assert evaluate(read, baselines=("oas",))[0].rmse == evaluate(SAMPLES, baselines=("oas",))[0].rmse


def test_a_folder_of_npy_files_in_the_order_of_their_names(tmp_path):
    for name, index in (("b", 1), ("a", 0), ("c.snapshots", 2)):
        np.save(tmp_path / f"{name}.npy", SAMPLES.snapshots[index])
        np.save(tmp_path / f"{name.partition('.')[0]}.angles.npy", SAMPLES.directions[index, ::-1])
    (tmp_path / "notes.txt").write_text("not read")
    read = read_samples(tmp_path, ARRAY)
    np.testing.assert_array_equal(read.snapshots, SAMPLES.snapshots)
    np.testing.assert_array_equal(read.directions, SAMPLES.directions)  # sorted


def test_other_names_other_axes_degrees_and_fewer_snapshots(tmp_path):
    turned = np.swapaxes(SAMPLES.snapshots, 1, 2).astype(np.complex64)
    path = write(tmp_path / "a.npz", X=turned, doa=np.rad2deg(SAMPLES.directions), more=np.array(["text"]))
    names = {"snapshots": "X", "angles": "doa"}
    read = read_samples(path, ARRAY, names=names, degrees=True, sensors_first=True, length=4)
    np.testing.assert_allclose(read.snapshots, SAMPLES.snapshots[:, :4], rtol=1e-6)
    assert read.snapshots.dtype == np.complex64
    np.testing.assert_allclose(read.directions, SAMPLES.directions, atol=1e-14)


def test_covariances(tmp_path):
    covariance = sample_covariance(SAMPLES.snapshots)
    np.save(tmp_path / "covariance.npy", covariance)
    np.save(tmp_path / "angles.npy", SAMPLES.directions)
    read = read_samples(tmp_path, ARRAY)
    assert read.snapshots is None
    np.testing.assert_array_equal(read.measured, covariance)
    (row,) = evaluate(read, baselines=("sample",))
    assert row.rmse == evaluate(SAMPLES, baselines=("sample",))[0].rmse


def test_files_with_other_numbers_of_sources_are_padded(tmp_path):
    write(tmp_path / "a.npz", snapshots=SAMPLES.snapshots[0], angles=[0.3])
    write(tmp_path / "b.npz", snapshots=SAMPLES.snapshots[:2], angles=[[0.5, -0.1], [np.nan, 0.2]])
    read = read_samples(tmp_path, ARRAY)
    np.testing.assert_array_equal(read.directions, [[0.3, np.nan], [-0.1, 0.5], [0.2, np.nan]])
    assert read.sources.tolist() == [1, 2, 1]


def test_a_plane(tmp_path):
    array = URA(2, 3)
    samples = Simulation(array, sources=2, snapshots=4).samples(0, 2)
    read = read_samples(write(tmp_path / "a.npz", snapshots=samples.snapshots, angles=samples.directions), array)
    np.testing.assert_array_equal(read.directions, samples.directions)
    one = write(tmp_path / "b.npz", snapshots=samples.snapshots[0], angles=samples.directions[0])
    np.testing.assert_array_equal(read_samples(one, array).directions, samples.directions[:1])


def test_a_source_without_one_of_its_angles_is_none(tmp_path):
    """Whichever angle is NaN, and wherever it stands."""
    given = Simulation(URA(3, 3), sources=2, snapshots=4).samples(0, 2)
    angles = given.directions.copy()
    angles[0, 0, 1] = angles[1, 0, 0] = np.nan
    read = read_samples(write(tmp_path / "a.npz", snapshots=given.snapshots, angles=angles), URA(3, 3))
    assert read.sources.tolist() == [1, 1]
    for index in range(2):
        np.testing.assert_array_equal(read.of(index), given.directions[index, 1:])


def test_a_matlab_file(tmp_path):
    scipy_io = pytest.importorskip("scipy.io", reason="needs the extra [covariance]")
    path = tmp_path / "a.mat"
    scipy_io.savemat(path, {"snapshots": SAMPLES.snapshots[0], "angles": SAMPLES.directions[0][:, None]})
    read = read_samples(path, ARRAY)
    np.testing.assert_array_equal(read.snapshots, SAMPLES.snapshots[:1])
    np.testing.assert_array_equal(read.directions, SAMPLES.directions[:1])
    path.write_bytes(b"MATLAB 5.0 MAT-file, but damaged")
    with pytest.raises(ValueError, match=r"a\.mat: not a \.mat file of version 5"):
        read_samples(path, ARRAY)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(ValueError, match=r"a\.mat: a \.mat file of version 7\.3 \(HDF5\); save it with -v7"):
        read_samples(path, ARRAY)


def test_without_scipy_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    (tmp_path / "a.mat").write_bytes(b"")
    with pytest.raises(
        ImportError, match=r"a\.mat: reading \.mat files needs scipy: pip install 'loopos\[covariance\]'"
    ):
        read_samples(tmp_path, ARRAY)


ROWS, ANGLES = SAMPLES.snapshots[0], SAMPLES.directions[0]
HOLES = SAMPLES.snapshots.copy()
HOLES[1, [2, 6], 0] = np.nan
MATRIX = SAMPLES.covariance[0]
BROKEN = MATRIX.copy()
BROKEN[3, 4] = np.inf


@pytest.mark.parametrize(
    ("parts", "options", "sentence"),
    [
        ({"snapshots": ROWS.real, "angles": ANGLES}, {}, "snapshots must be complex numbers, got float64; of real and"),
        ({"snapshots": ROWS.astype("U9"), "angles": ANGLES}, {}, "snapshots must be complex numbers, got <U9"),
        ({"snapshots": ROWS[0], "angles": ANGLES}, {}, "must have the shape (L, N) or (B, L, N), got (5,)"),
        ({"snapshots": ROWS.T, "angles": ANGLES}, {}, "(5, 9) are of 9 sensors, the array has 5; sensors_first=True"),
        ({"snapshots": ROWS[:, :4], "angles": ANGLES}, {}, "(9, 4) are of 4 sensors, the array has 5"),
        ({"snapshots": HOLES[1], "angles": ANGLES}, {}, "snapshots 2, 6 are not finite: 2 of 9"),
        ({"snapshots": HOLES, "angles": SAMPLES.directions}, {}, "snapshots 2, 6 of sample 1 are not finite: 2 of 27"),
        ({"snapshots": ROWS, "angles": ANGLES}, {"length": 10}, "has 9 snapshots a sample, length=10 asks for more"),
        ({"snapshots": ROWS}, {}, "has no 'angles', the directions of the sources; names={...} says what is what"),
        ({"angles": ANGLES}, {}, "has neither 'snapshots' nor 'covariance'"),
        ({"X": ROWS}, {}, "holds ['X'], none of 'snapshots', 'covariance', 'angles'; names={...}"),
        ({"snapshots": ROWS, "angles": SAMPLES.directions}, {}, "(K,) or (B, K) with B = 1, got (3, 2)"),
        ({"snapshots": ROWS, "angles": ANGLES * 1j}, {}, "angles must be real, got complex128"),
        ({"snapshots": ROWS, "angles": [10.0, 60.0]}, {}, "from -pi/2 to pi/2, got 60 radians; degrees=True reads"),
        ({"snapshots": ROWS, "angles": [np.nan]}, {}, "sample 0 has no angle"),
        ({"snapshots": ROWS, "angles": np.zeros(0)}, {}, "angles must have the shape (K,) or (B, K)"),
        ({"covariance": MATRIX[:4], "angles": ANGLES}, {}, "must have the shape (5, 5) or (B, N, N), got (4, 5)"),
        ({"covariance": BROKEN, "angles": ANGLES}, {}, "covariance 0 is not finite in row 3"),
        (
            {"covariance": 1j * MATRIX, "angles": ANGLES},
            {},
            "covariance 0 is not Hermitian: R_ij must be the conjugate",
        ),
        ({"snapshots": np.array([None]), "angles": ANGLES}, {}, "not a .npz file of numbers"),
    ],
)
def test_what_does_not_fit_is_said_with_the_file(tmp_path, parts, options, sentence):
    path = write(tmp_path / "odd.npz", **parts)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{re.escape(sentence)}"):
        read_samples(path, ARRAY, **options)


def test_samples_that_are_not_alike(tmp_path):
    write(tmp_path / "a.npz", snapshots=ROWS, angles=ANGLES)
    write(tmp_path / "b.npz", snapshots=ROWS[:7], angles=ANGLES)
    sentence = r"b\.npz: has snapshots of the shape \(7, 5\), and .*a\.npz has snapshots of the shape \(9, 5\).*length="
    with pytest.raises(ValueError, match=sentence):
        read_samples(tmp_path, ARRAY)
    assert read_samples(tmp_path, ARRAY, length=7).snapshots.shape == (2, 7, 5)
    write(tmp_path / "b.npz", covariance=MATRIX, angles=ANGLES)
    with pytest.raises(ValueError, match=r"b\.npz: has no snapshots, and .*a\.npz has snapshots"):
        read_samples(tmp_path, ARRAY, length=7)


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        read_samples(tmp_path / "gone", ARRAY)
    with pytest.raises(FileNotFoundError, match=r"has no \.npy, \.npz or \.mat file with snapshots or covariances"):
        read_samples(tmp_path, ARRAY)
    np.save(tmp_path / "a.npy", ROWS)
    with pytest.raises(ValueError, match=r"a\.npy: needs a\.angles\.npy beside it"):
        read_samples(tmp_path, ARRAY)
    (tmp_path / "a.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"a\.npy: not a \.npy file of numbers"):
        read_samples(tmp_path, ARRAY)
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"a\.npz: not a \.npz file of numbers \(it is no archive\)"):
        read_samples(tmp_path / "a.npz", ARRAY)
    (tmp_path / "b.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"b\.txt: samples are read from \.npy, \.npz and \.mat"):
        read_samples(tmp_path / "b.txt", ARRAY)
    with pytest.raises(TypeError, match="read_samples: array must be a ULA or a URA, got 5"):
        read_samples(tmp_path, 5)
    with pytest.raises(ValueError, match="names must be one of 'snapshots', 'covariance', 'angles', got 'X'"):
        read_samples(tmp_path, ARRAY, names={"X": "snapshots"})
