"""What `loopos info` says of weights that are stored small: the error of every tensor, and of each kind in a line."""

from __future__ import annotations

import json

import loopos
from loopos.cli import main
from loopos.cli.stored import by_part, facts

CONFIG = loopos.ModelConfig(256, 16, 3, 2, 32)


def test_every_tensor_is_told_and_each_kind_has_a_line(tmp_path, capsys):
    loopos.Model(CONFIG, seed=1).save_pretrained(tmp_path)
    model = loopos.Model.from_pretrained(tmp_path, weights="int4")
    assert main(["info", str(tmp_path), "--weights", "int4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["storage_errors"] == model.storage_errors()
    assert main(["info", str(tmp_path), "--weights", "int4"]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if line.startswith("error of"))
    parts = ("tok_embed", "attn.qkv_proj", "attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    assert list(lines) == [f"error of {part}.weight" for part in parts]
    assert lines["error of tok_embed.weight"].split()[0] == "int8,"
    errors = {name: each["relative"] for name, each in model.storage_errors().items() if "mlp.up_proj" in name}
    worst = max(errors, key=errors.get)
    said = f"nf4, {min(errors.values()):.4f} to {errors[worst]:.4f} ({worst})"
    assert lines["error of mlp.up_proj.weight"].strip() == said


def test_of_a_model_of_float32_nothing_is_said():
    assert facts(loopos.Model(CONFIG)) == {}
    assert by_part({}) == {}
