"""Both ensembling rules against the published functions' outputs, and the classifier's counts."""

import os
from pathlib import Path

import pytest
import torch
from golden_case import read_case

from rsvlm.metrics import ZeroShot, class_embeddings

GOLDEN = os.environ.get("RSVLM_GOLDEN")
CASE = Path(GOLDEN or "") / "georsclip_templates"
needs_case = pytest.mark.parity("georsclip_templates")


@pytest.fixture(scope="module")
def case():
    held = read_case(CASE)
    return held.spec, held.tensors, held.inputs()


RULES = {"mean": "unnormalised", "normalised_mean": "normalised"}


def classifier(ensemble, templates):
    """A metric over [class, template, D] embeddings."""
    metric = ZeroShot([f"class {i}" for i in range(len(templates))], ensemble)
    metric.set_text_features(templates.transpose(0, 1))
    return metric


@needs_case
@pytest.mark.parametrize("ensemble", RULES)
def test_georsclip_templates_on_noise(case, ensemble):
    spec, tensors, inputs = case
    lengths = inputs["input.template_log_norms"].exp()[..., None]
    metric = classifier(ensemble, inputs["input.template_embeddings"] * lengths)
    rule = RULES[ensemble]
    # Measured: 9e-8 on unit vectors and 1.2e-5 on logits, whose float32 spacing is up to 7.6e-6.
    torch.testing.assert_close(metric.embeddings.T, tensors[f"weights_{rule}"], atol=1e-6, rtol=0)
    logits = metric.logits(inputs["input.image_features"])
    torch.testing.assert_close(logits, tensors[f"logits_{rule}"], atol=5e-5, rtol=0)
    metric.update(inputs["input.image_features"], tensors["labels"])
    found = metric.compute()
    assert round(float(found["top1"]), 2) == spec["numbers"][f"accuracy_{rule}"]
    counts = spec["numbers"].get(f"top1_top5_counts_{rule}")
    if counts:
        assert float(found["top5"]) == pytest.approx(100 * counts[1] / len(tensors["labels"]))


@needs_case
@pytest.mark.parametrize("ensemble", RULES)
def test_georsclip_templates_on_a_models_embeddings(case, ensemble):
    _, tensors, _ = case
    metric = classifier(ensemble, tensors["model_text_raw"])
    torch.testing.assert_close(
        metric.embeddings.T, tensors[f"model_weights_{RULES[ensemble]}"], atol=1e-6, rtol=0
    )
    if ensemble == "mean":
        torch.testing.assert_close(
            metric.logits(tensors["model_image_raw"]),
            tensors["model_logits_unnormalised"],
            atol=5e-5,
            rtol=0,
        )


@needs_case
def test_georsclip_templates_through_our_towers(case, tmp_path):
    """The published state, written in its layout, loaded through the key map, all the way."""
    from rsvlm import checkpoints
    from rsvlm.encoders.clip.model import CLIP
    from rsvlm.encoders.clip.towers import TextTransformer, VisionTransformer

    spec, tensors, inputs = case
    vision, text = spec["config"]["vision_cfg"], spec["config"]["text_cfg"]
    width = spec["config"]["embed_dim"]
    model = CLIP(
        VisionTransformer(
            vision["image_size"],
            vision["patch_size"],
            width=vision["width"],
            layers=vision["layers"],
            heads=vision["width"] // vision["head_width"],
            embed_dim=width,
        ),
        TextTransformer(
            text["vocab_size"],
            text["context_length"],
            width=text["width"],
            layers=text["layers"],
            heads=text["heads"],
            embed_dim=width,
        ),
        arch="tiny",
        activation="gelu",
    ).eval()
    file = tmp_path / "published.pt"
    torch.save(read_case(CASE).state(), file)
    checkpoints.load(model, file)
    tokens = tensors["model_tokens"]
    with torch.no_grad():
        image = model.encode_image(inputs["input.pixels"])
        texts = model.encode_text(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
    # Measured: 1.7e-6 on features of magnitude 4, 2.2e-5 on logits of up to 20.
    torch.testing.assert_close(image, tensors["model_image_raw"], atol=1e-5, rtol=0)
    torch.testing.assert_close(texts, tensors["model_text_raw"], atol=1e-5, rtol=0)
    metric = classifier("mean", texts)
    expected = tensors["model_logits_unnormalised"]
    torch.testing.assert_close(metric.logits(image), expected, atol=1e-4, rtol=0)


def test_the_two_rules_differ_where_lengths_do():
    long, short = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    features = torch.stack([long, short])
    unit = class_embeddings(features, "normalised_mean")
    raw = class_embeddings(features, "mean")
    torch.testing.assert_close(unit, torch.tensor([[0.5, 0.5]]) * 2**0.5)
    torch.testing.assert_close(raw, torch.tensor([[3.0, 1.0]]) / 10**0.5)


def test_counts_by_hand():
    metric = ZeroShot(list("abcdefg"))
    metric.set_text_features(torch.eye(7)[None])
    image_features = torch.eye(7)[[0, 0, 1, 6, 2]]
    image_features[4] = torch.tensor([0.9, 0.8, 0.1, 0.7, 0.6, 0.5, 0.0])  # "c" is sixth
    metric.update(image_features, torch.tensor([0, 0, 2, 6, 2]))
    found = metric.compute()
    assert float(found["top1"]) == pytest.approx(60)
    # "c" of the third image ties with five others at zero and is the third class of them.
    assert float(found["top5"]) == pytest.approx(80)
    assert float(found["mean_per_class"]) == pytest.approx(200 / 3)
    assert metric.per_class[[0, 2, 6]].tolist() == [100, 0, 100]
    assert metric.per_class[1].isnan()
    assert metric.confusion_matrix[2, 1] == 1
    assert metric.confusion_matrix.sum() == 5
    assert metric.chance() == pytest.approx(
        {"top1": 100 / 7, "top5": 500 / 7, "mean_per_class": 100 / 7}
    )


def test_blocks_and_merging_change_nothing():
    g = torch.Generator().manual_seed(0)
    text, image = torch.randn(3, 6, 16, generator=g), torch.randn(50, 16, generator=g)
    labels = torch.randint(6, (50,), generator=g)
    whole = ZeroShot(list("abcdef"))
    parts = ZeroShot(list("abcdef"), block=3)
    for metric in (whole, parts):
        metric.set_text_features(text)
    whole.update(image, labels)
    for rows, target in zip(image.split(17), labels.split(17), strict=True):
        parts.update(rows, target)
    assert whole.compute() == parts.compute()


def test_fewer_than_five_classes():
    metric = ZeroShot(["a", "b"])
    metric.set_text_features(torch.eye(2)[None])
    metric.update(torch.eye(2), torch.tensor([1, 0]))
    assert {k: float(v) for k, v in metric.compute().items()} == {
        "top1": 0,
        "top5": 100,
        "mean_per_class": 0,
    }


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input_says_what_is_wrong():
    with pytest.raises(ValueError, match="choose one of"):
        ZeroShot(["a", "b"], "median")
    with pytest.raises(ValueError, match="all different"):
        ZeroShot(["a", "a"])
    with pytest.raises(ValueError, match="templates, classes, D"):
        class_embeddings(torch.ones(3, 4))
    metric = ZeroShot(["a", "b"])
    with pytest.raises(ValueError, match="set_text_features"):
        metric.update(torch.ones(1, 4), torch.tensor([0]))
    with pytest.raises(ValueError, match="3 classes for a metric with 2"):
        metric.set_text_features(torch.ones(1, 3, 4))
    metric.set_text_features(torch.ones(1, 2, 4))
    with pytest.raises(ValueError, match="do not fit"):
        metric.update(torch.ones(1, 5), torch.tensor([0]))
    with pytest.raises(ValueError, match="label -1 is outside"):
        metric.update(torch.ones(1, 4), torch.tensor([-1]))
    with pytest.raises(ValueError, match="not finite"):
        metric.update(torch.full((1, 4), torch.nan), torch.tensor([0]))
    with pytest.raises(ValueError, match="no images"):
        metric.compute()
    with pytest.raises(RuntimeError, match="after compute"):
        _ = metric.confusion_matrix
