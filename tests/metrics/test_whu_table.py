"""Published WHU-RS19 embeddings give the published accuracies, through the public classes."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from rsvlm.metrics import ZeroShot

DATA = os.environ.get("RSVLM_DATA")
FOLDER = Path(DATA or "") / "whu_rs19_features"
pytestmark = pytest.mark.skipif(
    not DATA or not FOLDER.is_dir(), reason="RSVLM_DATA is unset or lacks whu_rs19_features"
)

# Averaged prompt, top-1 in per cent, as RS-TransCLIP (a766b4d) publishes it.
AVERAGED = {
    "CLIP_ViT-B-32": 81.29,
    "CLIP_ViT-L-14": 85.47,
    "GeoRSCLIP_ViT-B-32": 88.76,
    "GeoRSCLIP_ViT-L-14": 88.46,
    "GeoRSCLIP_ViT-H-14": 90.45,
    "RemoteCLIP_ViT-B-32": 95.22,
    "RemoteCLIP_ViT-L-14": 93.53,
    "SkyCLIP50_ViT-B-32": 91.04,
    "SkyCLIP50_ViT-L-14": 87.46,
}


def top1(file, choose):
    """Top-1 of the templates that `choose` keeps, rounded as published."""
    with np.load(file) as held:
        names = [str(name) for name in held["templates"]]
        kept = [i for i, name in enumerate(names) if choose(name)]
        metric = ZeroShot([str(name) for name in held["classes"]], "normalised_mean")
        metric.set_text_features(torch.from_numpy(held["texts"][kept]))
        metric.update(
            torch.from_numpy(held["images"]), torch.from_numpy(held["labels"].astype("int64"))
        )
    found = metric.compute()
    assert int(metric.confusion_matrix.sum()) == 1005
    return len(kept), round(float(found["top1"]), 2)


def averaged(name):
    return "average" in name


@pytest.mark.parametrize("model", AVERAGED)
def test_whu_averaged_prompt(model):
    assert top1(FOLDER / f"{model}.npz", averaged) == (1, AVERAGED[model])


def test_whu_every_feature_file_is_in_the_table():
    assert {file.stem for file in FOLDER.glob("*.npz")} == set(AVERAGED)


def test_whu_georsclip_single_prompt():
    file = FOLDER / "GeoRSCLIP_ViT-B-32.npz"
    assert top1(file, lambda name: name == "a_satellite_photo_of_a") == (1, 88.26)


def test_whu_georsclip_rebuilt_from_its_templates():
    file = FOLDER / "GeoRSCLIP_ViT-B-32.npz"
    assert top1(file, lambda name: not averaged(name)) == (106, 88.76)
