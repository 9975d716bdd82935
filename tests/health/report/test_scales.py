"""The scale ledger in the report of a run."""

from __future__ import annotations

import loopos
from loopos.covariance import ULA, CovarianceConfig, Simulation
from loopos.health.report.report import write_report
from loopos.health.report.scales import scale_charts


def curve(records, name):
    return [(record["step"], record[name]) for record in records if name in record]


def test_each_quantity_of_each_matrix_is_drawn():
    records = [
        {"step": 1, "pred_norm": 65.1, "samp_norm": 2.85e-4, "blend_norm": 3.46e12, "scale_alarms": 2},
        {"step": 2, "pred_norm": 65.1, "eval_samp_norm": 46.6, "pred_smallest": -5.0},
    ]
    text = "".join(scale_charts(records, curve))
    for said in ("R_pred", "R_samp", "R_blend", "R_samp, evaluated", "smallest eigenvalue", "scale alarms"):
        assert said in text, said
    assert "R_loaded" not in text


def test_a_log_without_a_ledger_has_no_chart():
    assert scale_charts([{"step": 1, "loss": 2.0}], curve) == []


def test_the_report_of_a_run_has_it(tmp_path):
    run = {"max_steps": 3, "batch_size": 2, "log_every": 1, "progress": False, "output_dir": tmp_path}
    config = CovarianceConfig(4, n_layer=1, n_head=1, d_model=8, rank=2)
    loopos.train(config, Simulation(ULA(4), sources=1, snapshots=5), **run)
    page = write_report(tmp_path).path.read_text()
    assert "scale ledger: Frobenius norm" in page
    assert "nats a token" not in page
