"""A classifier with an adapter: its head learns beside it, and goes where the adapter goes."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from adapters import IDS, base, stir
from hf_sizes import SMALL
from safetensors.numpy import load_file, save_file

import loopos
from loopos import CheckpointError, LoRA, Modulated
from loopos.hf.classes import SCORE

NAMES = ("bad", "good", "so")
ROWS = [{"text": word * 3, "label": name} for word, name in zip("abcdef", NAMES * 2, strict=True)]
HOW = {"task": "classify", "batch_size": 2, "learning_rate": 1e-2, "progress": False, "log_every": 1, "seq_len": 8}
BYTES = loopos.ModelConfig(
    256, 16, 2, 2, 16, norm="rmsnorm", position="rope", activation="swiglu", bias=False, tie_embeddings=False
)
TARGETS = np.full(IDS.shape, -100)
TARGETS[:, -1] = (2, 0)


def classifier(spec=None, **how):
    model = base(**how).with_labels(NAMES)
    if spec is not None:
        model.add_adapter(spec, seed=1)
        stir(model.adapter_parameters(), seed=2)
    return model


@pytest.mark.parametrize("spec", [LoRA(2), Modulated(2)], ids=["lora", "modulated"])
def test_the_head_learns_beside_an_adapter_and_is_as_before_without_it(spec):
    model = classifier()
    model.freeze("final_norm.weight")
    trained, before = list(model.parameters(trainable=True)), model.state_dict()
    model.add_adapter(spec)
    assert list(model.parameters(trainable=True)) == list(model.adapter_parameters())
    assert SCORE in model.adapter_parameters()
    assert model.loss_and_grads(IDS, TARGETS)[1][SCORE].any()
    stir(model.adapter_parameters())
    model.remove_adapter()
    assert model.adapter_parameters() == {}
    assert list(model.parameters(trainable=True)) == trained
    for name, view in model.parameters().items():
        assert view.tobytes() == before[name].tobytes(), name


def test_merging_keeps_what_the_head_learned():
    model = classifier(LoRA(2), dtype="float64")
    learned, scores = model.parameters()[SCORE].copy(), model.forward(IDS)
    model.merge_adapter()
    np.testing.assert_array_equal(model.parameters()[SCORE], learned)
    np.testing.assert_allclose(model.forward(IDS), scores, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spec", [LoRA(2, dora=True), Modulated(2)], ids=["lora", "modulated"])
def test_a_model_with_an_adapter_is_given_classes(spec):
    model = base()
    model.add_adapter(spec, seed=1)
    stir(model.adapter_parameters(), seed=2)
    first, *_ = model.adapter_parameters()
    model.freeze(first)
    values, hidden = {name: view.copy() for name, view in model.adapter_parameters().items()}, model.hidden(IDS)
    model.with_labels(NAMES)
    assert set(model.adapter_parameters()) == {SCORE, *values}
    assert list(model.parameters(trainable=True)) == [name for name in model.adapter_parameters() if name != first]
    for name, value in values.items():
        np.testing.assert_array_equal(model.parameters()[name], value)
    assert model.hidden(IDS).tobytes() == hidden.tobytes()
    head = model.parameters()[SCORE].copy()
    stir(model.adapter_parameters())
    model.remove_adapter()
    np.testing.assert_array_equal(model.parameters()[SCORE], head)


def test_the_head_can_be_frozen():
    model = classifier(LoRA(2))
    model.freeze(SCORE)
    assert SCORE not in model.loss_and_grads(IDS, TARGETS)[1]
    model.unfreeze(SCORE)
    assert SCORE in model.loss_and_grads(IDS, TARGETS)[1]


@pytest.mark.parametrize("spec", [LoRA(2, dora=True), Modulated(2)], ids=["lora", "modulated"])
def test_a_folder_has_the_head_and_the_names_of_the_classes(spec, tmp_path):
    model = classifier(spec)
    model.save_adapter(tmp_path)
    for again in (base(), classifier()):  # one that has no classes is given them
        again.load_adapter(tmp_path)
        assert again.config.labels == NAMES
        assert again.adapter == spec
        assert again.forward(IDS).tobytes() == model.forward(IDS).tobytes()
    twin = copy.deepcopy(model)
    assert twin.forward(IDS).tobytes() == model.forward(IDS).tobytes()
    twin.remove_adapter()
    assert twin.parameters()[SCORE].tobytes() == classifier().parameters()[SCORE].tobytes()


def test_the_folder_of_a_classifier_is_that_of_peft(tmp_path):
    model = classifier(LoRA(2))
    model.save_adapter(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["task_type"], settings["modules_to_save"]) == ("SEQ_CLS", ["score", "classifier"])
    head = load_file(tmp_path / "adapter_model.safetensors")["base_model.model.score.weight"]
    np.testing.assert_array_equal(head, model.parameters()[SCORE])


def test_a_head_without_names_has_those_of_transformers(tmp_path):
    classifier(LoRA(2)).save_adapter(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file(tensors, tmp_path / "adapter_model.safetensors")  # without their metadata
    model = base()
    model.load_adapter(tmp_path)
    assert model.config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_what_does_not_fit_leaves_the_model_as_it_was(tmp_path):
    classifier(LoRA(2)).save_adapter(tmp_path / "classes")
    language = base()
    language.add_adapter(LoRA(2))
    language.save_adapter(tmp_path / "language")
    model, scores = classifier(), classifier().forward(IDS)
    with pytest.raises(CheckpointError, match=r"head of classes is score.weight \(3, 16\), and the adapter has none"):
        model.load_adapter(tmp_path / "language")
    other = base().with_labels(("a", "b"))
    with pytest.raises(CheckpointError, match=r"score.weight \(2, 16\), and the adapter has \(3, 16\)"):
        other.load_adapter(tmp_path / "classes")
    wrong = loopos.Model(loopos.ModelConfig(23, 12, 1, 4, 16, norm="rmsnorm", bias=False))
    logits = wrong.forward(IDS)
    with pytest.raises(CheckpointError, match="belongs to another base"):
        wrong.load_adapter(tmp_path / "classes")
    assert wrong.config.labels == ()
    assert wrong.forward(IDS).tobytes() == logits.tobytes()
    assert model.adapter is None
    assert model.forward(IDS).tobytes() == scores.tobytes()
    path = tmp_path / "classes" / "adapter_model.safetensors"
    save_file(load_file(path), path, {"labels": '["one"]'})
    with pytest.raises(CheckpointError, match="its metadata must name 3 classes"):
        base().load_adapter(tmp_path / "classes")


@pytest.mark.parametrize("weights", [None, "int8", "bfloat16"])
def test_a_run_trains_the_head_and_is_opened_whole(weights, tmp_path):
    loopos.Model(BYTES, seed=1).save_pretrained(tmp_path / "base")

    def start():
        return loopos.Model.from_pretrained(tmp_path / "base", weights=weights)

    how = HOW | {"adapter": LoRA(2)}
    learned = loopos.train(start(), ROWS, **how | {"learning_rate": 3e-2}, max_steps=60)
    assert learned.model.config.labels == NAMES
    losses = [entry["loss"] for entry in learned.history]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])  # of an epoch each
    half = loopos.train(start(), ROWS, **how | {"lr_schedule": "constant"}, max_steps=4, output_dir=tmp_path / "run")
    assert np.any(half.model.parameters()[SCORE] != base_head(start()))
    on = loopos.train(
        start(), ROWS, **how | {"lr_schedule": "constant"}, max_steps=8, output_dir=tmp_path / "run", resume="auto"
    )
    straight = loopos.train(start(), ROWS, **how | {"lr_schedule": "constant"}, max_steps=8)
    opened = loopos.Model.from_pretrained(tmp_path / "run")
    for name, view in straight.model.adapter_parameters().items():
        assert on.model.parameters()[name].tobytes() == view.tobytes(), name
        assert opened.parameters()[name].tobytes() == view.tobytes(), name
    assert opened.config.labels == NAMES
    assert opened.weights == on.model.weights
    texts = [np.frombuffer(row["text"].encode(), np.uint8).astype(np.int64) for row in ROWS]
    assert opened.classify(texts).tobytes() == on.model.classify(texts).tobytes()
    on.model.save_adapter(tmp_path / "adapter")
    alone = loopos.Model.from_pretrained(tmp_path / "adapter", weights=weights)
    assert alone.classify(texts).tobytes() == on.model.classify(texts).tobytes()


def base_head(model):
    return model.with_labels(NAMES, seed=1337).parameters()[SCORE]


def test_another_base_is_told_whatever_its_head_is(tmp_path):
    loopos.Model(BYTES, seed=1).save_pretrained(tmp_path / "base")
    loopos.Model(BYTES, seed=2).save_pretrained(tmp_path / "other")
    model = loopos.Model.from_pretrained(tmp_path / "base")
    loopos.train(model, ROWS, **HOW, adapter=LoRA(2), max_steps=2, output_dir=tmp_path / "run")
    with pytest.raises(ValueError, match="is not the base that the adapter"):
        loopos.Model.from_pretrained(tmp_path / "run", base=tmp_path / "other")


def test_a_run_that_cannot_begin_leaves_no_head_and_no_adapter(tmp_path):
    (tmp_path / "file").write_text("")
    model = loopos.Model(BYTES)
    with pytest.raises(OSError, match="file"):
        loopos.train(model, ROWS, **HOW, adapter=LoRA(2), max_steps=2, output_dir=tmp_path / "file")
    with pytest.raises(ValueError, match="no_proj"):  # told when the head is there already
        loopos.train(model, ROWS, **HOW, adapter=LoRA(2, targets=("no_proj",)), max_steps=2)
    assert model.config.labels == ()
    assert model.adapter is None


class Batches:
    """A class for each row, told at its last position; which one is the row's first token modulo three."""

    def batch(self, step, micro):
        ids = np.random.default_rng([step, micro]).integers(0, 20, (4, 10))
        targets = np.full(ids.shape, -100)
        targets[:, -1] = ids[:, 0] % 3
        return ids, targets


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_scores_losses_and_matrices_follow_peft(family, dtype, tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    peft = pytest.importorskip("peft", reason="compares with peft")
    from hf_against import computing

    settings = {name: value for name, value in SMALL[family].items() if name != "model_type"}
    settings |= {"num_labels": 3, "pad_token_id": 22}
    dropouts = ("resid_pdrop", "embd_pdrop", "attn_pdrop") if family == "gpt2" else ()
    settings |= dict.fromkeys(dropouts, 0.0)
    config = transformers.AutoConfig.for_model(family, **settings)
    steps, rate = 20, 3e-3
    torch.manual_seed(3)
    with computing(dtype):
        theirs = transformers.AutoModelForSequenceClassification.from_config(config)
        stir({name: view.detach().numpy() for name, view in theirs.named_parameters()})
        theirs.to(getattr(torch, dtype)).save_pretrained(tmp_path / "base")
        asked = peft.LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="SEQ_CLS")
        theirs = peft.get_peft_model(theirs, asked, autocast_adapter_dtype=False)
        theirs.save_pretrained(tmp_path / "start")
        trained = [p for p in theirs.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
        expected = []
        for step in range(steps):
            ids, targets = (torch.from_numpy(each) for each in Batches().batch(step, 0))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(theirs(ids).logits, targets[:, -1])
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
        theirs.save_pretrained(tmp_path / "end")
        ours = loopos.Model.from_pretrained(tmp_path / "base")
        ours.load_adapter(tmp_path / "start")
        how = {"learning_rate": rate, "lr_schedule": "constant", "weight_decay": 0.0, "betas": (0.9, 0.95)}
        result = loopos.train(ours, Batches(), max_steps=steps, max_grad_norm=None, log_every=1, progress=False, **how)
        gate = 1e-9 if dtype == "float64" else 1e-4
        np.testing.assert_allclose([entry["loss"] for entry in result.history], expected, rtol=gate)
        end = loopos.Model.from_pretrained(tmp_path / "base")
        end.load_adapter(tmp_path / "end")
        for name, want in end.adapter_parameters().items():
            got = ours.adapter_parameters()[name]
            assert np.linalg.norm(got - want) <= gate * np.linalg.norm(want), name

        ours.save_adapter(tmp_path / "ours")
        bare = type(theirs.get_base_model()).from_pretrained(tmp_path / "base", dtype=getattr(torch, dtype))
        again = peft.PeftModel.from_pretrained(bare, tmp_path / "ours", autocast_adapter_dtype=False).eval()
        ids = Batches().batch(99, 0)[0]
        scores = again(torch.from_numpy(ids)).logits.detach().numpy()
        np.testing.assert_allclose(ours.forward(ids)[:, -1], scores, rtol=10 * gate, atol=10 * gate)
