"""MModalCC: parity with the published code, its options, gradients, beams, bad input."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from change_files import counters, save_pickled
from golden_case import read_case

from rsvlm import checkpoints
from rsvlm.encoders.resnet import ConvStem, ResNet
from rsvlm.errors import UserError
from rsvlm.losses.language import CaptionLoss
from rsvlm.models.mmodalcc import MMODALCC, MModalCC
from rsvlm.nn.change_decoder import CaptionDecoder

GOLDEN = os.environ.get("RSVLM_GOLDEN")


def case(name):
    folder = Path(GOLDEN or "") / name
    if not GOLDEN or not folder.is_dir():
        pytest.skip(f"RSVLM_GOLDEN is unset or lacks {name}")
    return read_case(folder)


def test_mmodalcc_equals_the_published_code(tmp_path):
    found = case("mmodalcc")
    sizes, expected = found.spec["config"], found.tensors
    file = save_pickled(tmp_path / "best.pth.tar", counters(found.state()))
    stages = {}
    for name in found.spec["state"]:
        parts = name.split(".")
        if parts[0] == "encoder_image" and len(parts) > 4:
            stages.setdefault(int(parts[2]), set()).add(int(parts[3]))
    blocks = [len(stages[stage]) for stage in sorted(stages)]
    model = MModalCC(
        ResNet(blocks),
        ResNet(blocks),
        sizes["vocab_size"],
        dim=sizes["d_model"],
        heads=sizes["n_head"],
        layers=sizes["encoder_layers"],
        grid=sizes["encoded_image_size"],
        decoder_heads=sizes["decoder_heads"],
        decoder_layers=sizes["decoder_layers"],
        variant="parallel",
    ).eval()
    report = checkpoints.load(model, file)
    assert report.loaded == report.total and report.dialect == "mmodalcc" and report.dropped
    images = expected["images"]
    batch = SimpleNamespace(images=images[:, :2], semantic=images[:, 2:])
    with torch.no_grad():
        memories = model.memories(batch)
        logits = model.decoder(memories, expected["captions"])
    for memory, name in zip(memories, ("fused_image", "fused_semantic"), strict=True):
        torch.testing.assert_close(
            memory.transpose(0, 1)[::8, :, ::16], expected[name], atol=1e-4, rtol=1e-4
        )
    torch.testing.assert_close(logits, expected["logits"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batched", [False, True])
def test_mmodalcc_beam_equals_the_published_loop(tmp_path, batched):
    found = case("mmodalcc_beam")
    sizes, expected = found.spec["config"], found.tensors
    file = save_pickled(tmp_path / "best.pth.tar", counters(found.state()))
    decoder = CaptionDecoder(
        sizes["vocab_size"],
        sizes["decoder_dim"],
        heads=sizes["decoder_heads"],
        layers=sizes["decoder_layers"],
        memories=2,
        gated=True,
    ).eval()
    report = checkpoints.load(decoder, file, part="decoder", dialects=[MMODALCC])
    assert report.loaded == report.total
