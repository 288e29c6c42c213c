"""A frozen backbone of timm gives a grid of vectors, from either layout of its weights."""

import pytest
import torch
from PIL import Image

from rsvlm.checkpoints.dialects import revert
from rsvlm.data.transforms import Preprocess
from rsvlm.encoders.timm_grid import TimmGrid
from rsvlm.errors import UserError

LITE = {"name": "tf_efficientnet_lite0", "levels": [3], "grid": 2, "image_size": 64}


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return TimmGrid(**LITE)


def test_tokens_are_means_of_the_maps_and_the_first_is_their_mean(tower):
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    tokens = tower.train()(images)
    assert tokens.shape == (2, 5, tower.dim) and tower.dim == 1280 + 112 and tower.tokens == 5
    last, (fine,) = tower.body.forward_intermediates(images / 127.5 - 1, indices=[3])
    cell = torch.cat([last[0, :, :1, :1].mean((1, 2)), fine[0, :, :2, :2].mean((1, 2))])
    assert torch.allclose(tokens[0, 1], cell, atol=1e-3, rtol=1e-2)
    assert torch.allclose(tokens[:, 0], tokens[:, 1:].mean(1), atol=1e-3, rtol=1e-2)
    assert torch.equal(tower.from_features(tower.features_to(images, 1), 1), tokens)
    assert not any(p.requires_grad for p in tower.parameters()) and not tower.body.training


def test_weights_in_the_names_of_efficientnet_pytorch_and_of_timm(tower, tmp_path):
    timm, flat = tower.dialects
    state = dict(tower.state_dict())
    theirs = revert(state, flat) | {"_fc.weight": torch.ones(3, 3), "_fc.bias": torch.ones(3)}
    assert "_blocks.15._expand_conv.weight" in theirs and "_blocks.0._bn0.weight" not in theirs
    torch.save(theirs, tmp_path / "flat.pth")
    torch.save(revert(state, timm) | {"classifier.weight": torch.ones(2)}, tmp_path / "timm.pth")
    for name in ("flat.pth", "timm.pth"):
        again = TimmGrid(**LITE, weights=tmp_path / name)
        assert all(torch.equal(state[n], v) for n, v in again.state_dict().items())


def test_scaling_on_the_device_is_pillows(tower):
    draws = torch.Generator().manual_seed(0)
    small = torch.rand(3, 12, 12, generator=draws)[None]
    pixels = torch.nn.functional.interpolate(small, 40, mode="bilinear")[0].mul(255).byte()
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    torch.manual_seed(0)
    scaled = TimmGrid(**{**LITE, "image_size": 40}, scale_to=64)
    given = tower(Preprocess(64)(picture)[None])
    assert (scaled(pixels[None]) - given).abs().max() < 0.02 * given.abs().max()


def test_what_cannot_be_built_says_why():
    with pytest.raises(UserError, match="Did you mean"):
        TimmGrid("tf_efficientnet_lite00")
    with pytest.raises(UserError, match="maps 0 to 4, not"):
        TimmGrid("tf_efficientnet_lite0", levels=[7])
    with pytest.raises(UserError, match="grid=0"):
        TimmGrid("tf_efficientnet_lite0", grid=0)
