"""Semantic maps from a segmentation model: each kind gives maps and learns them."""

import pytest
import torch
from torch.nn import functional as F

from rsvlm.encoders.resnet import ConvStem
from rsvlm.errors import UserError
from rsvlm.models.change_captioning.segmenter import (
    HuggingFaceSegmenter,
    Segmenter,
    TimmTower,
    map_ids,
)

SEGFORMER = {
    "model_type": "segformer",
    "num_labels": 5,
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [8, 16],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 16,
}


def build(kind):
    torch.manual_seed(0)
    if kind == "transformers":
        return HuggingFaceSegmenter(config=SEGFORMER)
    encoder = ConvStem((8, 16)) if kind == "own" else TimmTower("resnet18", level=1)
    return Segmenter(encoder, 5, width=16)


@pytest.mark.parametrize("kind", ["own", "timm", "transformers"])
def test_logits_have_the_images_size_and_learn(kind):
    model = build(kind)
    images = torch.zeros(2, 2, 3, 32, 32)
    maps = torch.zeros(2, 2, 32, 32, dtype=torch.long)
    images[..., 16:], maps[..., 16:] = 1.0, 3
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        logits = model(images)
        F.cross_entropy(logits.flatten(0, 1), maps.flatten(0, 1)).backward()
        optimizer.step()
    assert logits.shape == (2, 2, 5, 32, 32) and model.classes == 5
    found = map_ids(logits)
    # Away from the edge between the halves, which the resize blurs.
    assert torch.equal(found[..., :10], maps[..., :10])
    assert torch.equal(found[..., 22:], maps[..., 22:])


def test_only_a_paired_head_sees_the_other_date():
    images = torch.randn(2, 2, 3, 16, 16)
    other = images.clone()
    other[:, 1] = 0
    for paired in (True, False):
        torch.manual_seed(0)
        model = Segmenter(ConvStem((8, 16)), 5, width=16, paired=paired).eval()
        same = torch.equal(model(images)[:, 0], model(other)[:, 0])
        assert same is not paired


def test_a_folder_of_transformers_is_read(tmp_path):
    first = build("transformers").eval()
    first.body.save_pretrained(tmp_path / "segformer")
    second = HuggingFaceSegmenter(tmp_path / "segformer").eval()
    images = torch.randn(1, 2, 3, 32, 32)
    torch.testing.assert_close(second(images), first(images))


def test_bad_input(tmp_path):
    with pytest.raises(UserError, match="Did you mean resnet18"):
        TimmTower("resnet18x")
    with pytest.raises(UserError, match=r"level=9: resnet18 has \d feature maps"):
        TimmTower("resnet18", level=9)
    with pytest.raises(UserError, match="classes=1"):
        Segmenter(ConvStem((8,)), 1)
    with pytest.raises(UserError, match="no folder with a model"):
        HuggingFaceSegmenter(tmp_path)
    with pytest.raises(UserError, match="needs weights="):
        HuggingFaceSegmenter()
