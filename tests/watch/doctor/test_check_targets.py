"""Each fault that loopos/watch/doctor/check_targets.py is for is planted, and told by its own check."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched.judged_doctor import planted_for  # noqa: E402
from watched.layers import Causal  # noqa: E402

import loopos  # noqa: E402

test_a_planted_fault_is_told = planted_for("labels", "next token", "initial loss")


class Answers(Causal):
    """Called as models of transformers are."""

    def forward(self, input_ids, attention_mask=None, labels=None):
        logits = super().forward(input_ids)
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()), logits


@pytest.mark.parametrize(("ends", "masked", "told"), [(4, False, True), (4, True, False), (7, False, False)])
def test_labels_of_padding(ends, masked, told):
    torch.manual_seed(0)
    model = Answers()
    ids = torch.randint(1, 16, (4, 8))
    mask = (torch.arange(8) < torch.tensor([8, 8, ends, ends])[:, None]).long()
    ids = ids * mask
    batch = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100) if masked else ids}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    report = loopos.watch.doctor(model, optimizer, batch, lambda model, batch: model(**batch))
    said = [str(each) for each in report.problems if each.name == "labels"]
    assert bool(said) == told
    assert all("8 labels at padding are scored" in each for each in said)
