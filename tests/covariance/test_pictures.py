"""Pictures are written where matplotlib is, and say what to install where it is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from covariance_scenes import LINE, ON_LINE, ON_PLANE, PLANE, true_covariance

from loopos.covariance import (
    CovarianceConfig,
    CovarianceNetwork,
    Simulation,
    error_picture,
    learned_picture,
    sample_covariance,
    spectrum_picture,
    sweep,
)
from loopos.covariance.trained import estimate

SCENE = true_covariance(LINE, ON_LINE)
PNG = b"\x89PNG"


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figure = pytest.importorskip("matplotlib.figure", reason="needs the extra [covariance]")
    kept, save = [], figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda self, *rest, **options: kept.append(self) or save(self, *rest, **options)
    )
    return kept


def test_curves_of_a_line_peak_where_the_truth_is_marked(tmp_path, drawn):
    path = spectrum_picture(
        tmp_path / "a.png", {"before": np.eye(8) + 0 * SCENE, "after": SCENE}, LINE, 3, directions=ON_LINE
    )
    assert path.read_bytes().startswith(PNG)
    (axes,) = drawn[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    degrees, decibels = lines["after"].get_data()
    for true in np.degrees(ON_LINE):
        assert decibels[np.argmin(np.abs(degrees - true))] > -25
    assert np.median(decibels) == -50
    assert sorted(line.get_xdata()[0] for line in axes.lines[2:]) == pytest.approx(np.degrees(ON_LINE))


def test_maps_of_a_plane(tmp_path, drawn):
    covariance = true_covariance(PLANE, ON_PLANE)
    path = spectrum_picture(
        tmp_path / "a.png", {"one": covariance, "two": covariance}, PLANE, 3, directions=ON_PLANE, points=200
    )
    assert path.read_bytes().startswith(PNG)
    one, two, bar = drawn[0].axes
    assert (one.get_title(), two.get_title()) == ("one", "two")
    np.testing.assert_allclose(one.lines[0].get_xydata(), np.degrees(ON_PLANE))
    values = one.collections[0].get_array().reshape(40, 40)
    row, column = np.unravel_index(np.argmax(values), values.shape)
    found = np.linspace(-90, 90, 40)[[column, row]]
    assert np.abs(np.degrees(ON_PLANE) - found).max(1).min() < 5
    assert "dB" in bar.get_ylabel()


def test_one_covariance_without_the_truth(tmp_path, drawn):
    assert spectrum_picture(tmp_path / "a.png", SCENE, LINE, 3).exists()
    assert len(drawn[0].axes[0].lines) == 1


@pytest.mark.parametrize(("array", "sources"), [(LINE, 2), (PLANE, 3)], ids=["line", "plane"])
def test_what_training_did_to_the_spectrum(array, sources, tmp_path, drawn):
    samples = Simulation(array, sources=sources, snr=5.0, snapshots=4).samples(0, 3)
    config = CovarianceConfig(elements=array.sensors, n_layer=1, d_model=16)
    fresh, model = (CovarianceNetwork(config, seed=seed) for seed in (0, 5))
    learned_picture(tmp_path / "a.png", model, samples, 1, seed=0, points=100)
    spectrum_picture(
        tmp_path / "b.png",
        {
            "before training": estimate(fresh, samples).covariance[1],
            "after training": estimate(model, samples).covariance[1],
            "sample covariance": sample_covariance(samples.snapshots[1]),
        },
        array,
        sources,
        directions=samples.of(1),
        title=f"MUSIC spectrum: {sources} sources of 5 dB, 4 snapshots",
        points=100,
    )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    learned_picture(tmp_path / "b.png", model, samples, 1, beta=0.5, seed=0, points=100)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    with pytest.raises(ValueError, match="learned_picture: index must be"):
        learned_picture(tmp_path / "a.png", model, samples, 3)


def test_errors_over_the_snr_with_the_bound(tmp_path, drawn):
    rows = sweep(Simulation(LINE), snr=(0, 10), snapshots=(20, 50), count=4)
    assert error_picture(tmp_path / "a.png", rows).read_bytes().startswith(PNG)
    left, right = drawn[0].axes
    assert [axes.get_title() for axes in (left, right)] == ["20 snapshots", "50 snapshots"]
    assert [line.get_label() for line in left.lines] == ["sample, ledoit_wolf, oas", "Cramér-Rao bound"]
    np.testing.assert_allclose(left.lines[1].get_ydata(), np.degrees([rows[0].bound, rows[3].bound]))
    with pytest.raises(ValueError, match="error_picture: rows must be those of a sweep"):
        error_picture(tmp_path / "a.png", [])


def test_without_matplotlib_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (lambda: spectrum_picture(tmp_path / "a.png", SCENE, LINE, 3), lambda: error_picture("a.png", [])):
        with pytest.raises(ImportError, match=r"need matplotlib: pip install 'loopos\[covariance\]'"):
            call()
