"""The ratios of `loopos bench steps` and the products of `loopos bench ops`, by hand."""

from __future__ import annotations

from loopos.bench import comparison, tables

STEPS = {  # engine: (median, least) of the step times in seconds, peak RSS
    "loopos": (2.0, 1.0, 10),
    "loopos-bf16x3": (1.0, 0.5, 20),
    "loopos-bf16": (0.5, 0.5, 30),
    "torch": (4.0, 3.0, 50),
    "torch-compiled": (3.0, 3.0, 40),
    "torch-medium": (2.0, 2.0, 60),
    "torch-autocast": (1.5, 1.0, 80),
}


def _settings(*names):
    peers = [
        {"peer": name, "seconds": {"median": median, "min": least}, "peak_rss": rss}
        for name, (median, least, rss) in STEPS.items()
        if name in names
    ]
    return [{"setting": {"name": "some"}, "peers": peers}]


def test_ratios_of_steps_and_of_their_memory():
    header, rows = comparison.summary({"settings": _settings(*STEPS)})
    assert header == ["", "some"]
    assert rows == [
        ["float32 over PyTorch float32", "1.50"],
        ["bf16x3 over PyTorch float32", "3.00"],
        ["bf16 over the better of PyTorch autocast and medium", "3.00"],
        ["peak RSS, float32 over PyTorch float32", "0.25"],
        ["peak RSS, bf16x3 over PyTorch float32", "0.50"],
        ["peak RSS, bf16 over the lesser of PyTorch autocast and medium", "0.50"],
    ]
    _, rows = comparison.summary({"settings": _settings(*STEPS)}, "min", memory=False)
    assert [row[1] for row in rows] == ["3.00", "6.00", "2.00"]


def test_only_what_was_measured_has_a_row():
    _, rows = comparison.summary({"settings": _settings("loopos", "torch", "torch-medium")})
    assert rows == [["float32 over PyTorch float32", "2.00"], ["peak RSS, float32 over PyTorch float32", "0.20"]]
    _, rows = comparison.summary({"settings": _settings("loopos")})
    assert [row[1] for row in rows] == ["-", "-"]
    assert comparison.summary({"settings": _settings("torch")})[1] == []


def _product(name, flops, direction="forward", **seconds):
    peers = [
        {
            "peer": peer.replace("_", "-"),
            "seconds": {"median": value, "min": value / 2},
            "flops_per_second": flops / value,
        }
        for peer, value in seconds.items()
    ]
    about = {"operation": name, "direction": direction, "setting": "baby", "shape": "2 × 3 × 4", "flops": flops}
    return about | {"peers": peers}


def test_products_together_are_work_over_time():
    found = [
        _product("y (up)", 2e9, loopos=1.0, loopos_bf16=0.5),
        _product("dx (up)", 4e9, loopos=2.0, loopos_bf16=0.5, torch=1.0),
        _product("attention (causal)", 9e9, loopos=0.1, loopos_bf16=0.1, torch=0.1),
    ]
    assert comparison.product_rates(found, "median") == {"loopos": 2e9, "loopos-bf16": 6e9}  # torch lacks one
    assert comparison.product_rates(found, "min") == {"loopos": 4e9, "loopos-bf16": 12e9}


def test_the_table_of_products():
    engines = {name: name for name in ("loopos", "loopos-bf16", "torch-medium")}
    found = [
        _product("dw (up)", 2e9, loopos=1.0, loopos_bf16=0.25, torch_medium=0.5),
        _product("attention (causal)", 2e9, "backward", loopos=1.0),
    ]
    result = {"limits": [], "absent": [], "operations": [], "products": found, "engines": engines}
    text = "\n".join(tables.SUITES["ops"](result, True))
    assert "| dw (up) | 2 × 3 × 4 | 2.00 | 8.00 | 4.00 | - | 2.00 | - |" in text
    assert "| attention (causal) backward | 2 × 3 × 4 | 2.00 | - | - | - | - | - |" in text
    assert "| loopos-bf16 | 8.00 |" in text
    assert "| loopos-bf16, least times | 16.0 |" in text
    assert "|  | baby |" in text
