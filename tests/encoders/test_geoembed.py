"""geoembed's ResNet-18 of aerial tiles: a small stand-in of its file, run as its own code does."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rsvlm.encoders.timm_grid import TimmGrid
from rsvlm.errors import UserError

AERIAL = {
    "name": "resnet18",
    "channels": [8, 8, 16, 16],
    "levels": [2, 3],
    "grid": 2,
    "image_size": 32,
    "small_stem": True,
    "pretrained_cfg_overlay": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"},
}


@pytest.fixture(scope="module")
def held():
    """What the file holds: its own names, no counts of batches, three numbers and a last layer."""
    draws = np.random.default_rng(0)
    arrays = {"embed_dim": np.array([4], np.int32), "base_channels": np.array([64], np.int32)}
    arrays |= {"pool_size": np.array([4], np.int32), "fc.weight": np.ones((9, 4), np.float32)}
    arrays["fc.bias"] = np.ones(4, np.float32)

    def layer(conv, norm, out, into, side):
        weight = draws.normal(0, (side * side * into) ** -0.5, (out, into, side, side))
        arrays[f"{conv}.weight"] = weight.astype(np.float32)
        for word, low in (
            ("weight", 0.5),
            ("bias", -1),
            ("running_mean", -1),
            ("running_var", 0.5),
        ):
            arrays[f"{norm}.{word}"] = draws.uniform(low, 1.5, out).astype(np.float32)

    layer("bb.stem.0", "bb.stem.1", 64, 3, 3)
    widths = [64, 8, 8, 16, 16]
    for stage in range(1, 5):
        for place in range(2):
            block = f"bb.layer{stage}.{place}"
            into, out = widths[stage - (place == 0)], widths[stage]
            layer(f"{block}.conv1", f"{block}.bn1", out, into, 3)
            layer(f"{block}.conv2", f"{block}.bn2", out, out, 3)
            if place == 0 and (stage > 1 or into != out):
                layer(f"{block}.short.0", f"{block}.short.1", out, into, 1)
    return arrays


def run(held, images):
    """Maps of the second, third and last stage, as geoembed's arch.py computes them."""

    def layer(x, conv, norm, stride=1):
        weight = torch.from_numpy(held[f"{conv}.weight"])
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        words = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(torch.from_numpy(held[f"{norm}.{word}"]) for word in words))

    x, maps = layer(images, "bb.stem.0", "bb.stem.1").relu(), []
    for stage in range(1, 5):
        for place in range(2):
            block = f"bb.layer{stage}.{place}"
            stride = 2 if stage > 1 and place == 0 else 1
            inner = layer(x, f"{block}.conv1", f"{block}.bn1", stride).relu()
            inner = layer(inner, f"{block}.conv2", f"{block}.bn2")
            if f"{block}.short.0.weight" in held:
                x = layer(x, f"{block}.short.0", f"{block}.short.1", stride)
            x = (inner + x).relu()
        maps.append(x)
    return maps[1:]


def test_its_file_gives_what_its_own_code_computes(held, tmp_path):
    np.savez_compressed(tmp_path / "v3.npz", **held, arch=np.array("v3"))
    tower = TimmGrid(**AERIAL, weights=tmp_path / "v3.npz")
    assert tower.mean == tower.std == (0.5, 0.5, 0.5) and tower.interpolation == "bilinear"
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    second, third, last = (F.adaptive_avg_pool2d(x, 2) for x in run(held, images / 127.5 - 1))
    grid = torch.cat([last, second, third], dim=1).flatten(2).transpose(1, 2)
    assert torch.allclose(tower(images)[:, 1:], grid, rtol=2e-3, atol=2e-3)


def test_what_does_not_fit_says_why(held, tmp_path):
    np.savez(tmp_path / "v3.npz", **held)
    with pytest.raises(UserError, match=r"is 3 x 3: set model\.vision\.small_stem=true"):
        TimmGrid(**{**AERIAL, "small_stem": False}, weights=tmp_path / "v3.npz")
    with pytest.raises(UserError, match=r"small_stem=true is for ResNets"):
        TimmGrid("tf_efficientnet_lite0", small_stem=True)
    with pytest.raises(UserError, match="It looks like a ResNet"):
        TimmGrid("tf_efficientnet_lite0", weights=tmp_path / "v3.npz")
    lacking = {name: value for name, value in held.items() if ".bn2.running_var" not in name}
    np.savez(tmp_path / "less.npz", **lacking)
    with pytest.raises(UserError, match=r"own names:\n  bb\.layer1\.\{0-1\}\.bn2\.running_var"):
        TimmGrid(**AERIAL, weights=tmp_path / "less.npz")
    np.savez(tmp_path / "other.npz", **held, **{"bb.layer5.0.conv3": np.ones(3)})
    with pytest.raises(UserError, match=r"bb\.layer5\.0\.conv3 .*near"):
        TimmGrid(**AERIAL, weights=tmp_path / "other.npz")


def test_arrays_that_are_no_weights_are_refused(tmp_path, held):
    np.savez(tmp_path / "code.npz", a=np.array([nn.ReLU()], dtype=object))
    with pytest.raises(UserError, match="pickled objects among its arrays"):
        TimmGrid(**AERIAL, weights=tmp_path / "code.npz")
    np.savez(tmp_path / "cut.npz", **held)
    whole = (tmp_path / "cut.npz").read_bytes()
    middle = len(whole) // 2
    (tmp_path / "cut.npz").write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    with pytest.raises(UserError, match=r"cut\.npz is damaged or cut short"):
        TimmGrid(**AERIAL, weights=tmp_path / "cut.npz")
    np.savez_compressed(tmp_path / "zeros.npz", a=np.zeros(1 << 23))
    with pytest.raises(UserError, match="would unpack to"):
        TimmGrid(**AERIAL, weights=tmp_path / "zeros.npz")
