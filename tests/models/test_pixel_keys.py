"""Published folders of GeoPix, LISA and PixelLM, and SAM's own files: names, shapes, numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from model_options import build

from rsvlm import checkpoints
from rsvlm.checkpoints.dialects import revert
from rsvlm.checkpoints.load import load_contents
from rsvlm.checkpoints.read import unwrap
from rsvlm.checkpoints.resolve import Source
from rsvlm.encoders.sam import SIZES, SamEncoder
from rsvlm.errors import UserError
from rsvlm.models.lisa.layouts import sam_masks_dialect
from rsvlm.nn.mask_decoder import MaskDecoder
from rsvlm.nn.mask_predictor import MaskPredictor

KEYS = Path(__file__).parents[1] / "keys"
PUBLISHED = {"variant": "released", "length": 64, "grid": 32, "norm": "batch"}


def manifest(name):
    lines = [line.split(" ", 1) for line in (KEYS / f"{name}.txt").read_text().splitlines()]
    return {name: torch.empty(json.loads(shape), device="meta") for name, shape in lines}


def geopix(**memory):
    return build(
        "geopix", device="meta", tuning="frozen", variant="released", memory={**PUBLISHED, **memory}
    )


def loaded(model, names, folder, towers=()):
    contents = unwrap(names, folder / "model.safetensors")
    source = Source("model.safetensors")
    return load_contents(model, contents, source, dialects=model.dialects, towers=towers)


def test_geopix_folder_loads_at_full_size_and_is_written_back(tmp_path):
    names, model = manifest("geopix"), geopix()
    report = loaded(model, names, tmp_path)
    assert report.dialect == "GeoPix" and not report.missing
    assert report.loaded == report.total == len(model.state_dict())
    assert model.masks.memory.memory.numel() == 629_145_600
    back = revert(model.state_dict(), model.dialects[0])
    constants = {n for n in names if n.endswith((".pe", "num_batches_tracked"))}
    assert {n: t.shape for n, t in back.items()} == {
        n: t.shape for n, t in names.items() if n not in constants
    }


def test_geopix_weights_need_its_variant_and_may_come_without_their_memory(tmp_path):
    names = manifest("geopix")
    paper = build("geopix", device="meta", tuning="frozen", memory=PUBLISHED)
    with pytest.raises(UserError, match=r"Say model\.variant=released"):
        loaded(paper, names, tmp_path)
    none = geopix(variant="none")
    report = loaded(none, names, tmp_path)
    assert not report.missing and report.loaded == len(none.state_dict())
    assert any(name.startswith("clm.") for name in report.dropped)
    short = {**names}
    short["vlm.language_model.lm_head.weight"] = torch.empty(32004, 4096, device="meta")
    with pytest.raises(UserError, match="the new words have other ids there than in this model"):
        loaded(geopix(), short, tmp_path)


@pytest.mark.parametrize(("option", "dialect"), [("lisa_7b", "LISA"), ("pixellm_7b", "PixelLM")])
def test_merged_folders_load_at_full_size_but_for_clip(tmp_path, option, dialect):
    names = manifest(option)
    model = build(option, device="meta", tuning="frozen")
    report = loaded(model, names, tmp_path, towers=["vision"])
    assert report.dialect == dialect and not report.fresh
    left = {name for name in report.missing if not name.startswith("vision.")}
    # Scalars that no published file holds.
    assert left == set(getattr(model, "initial", ()))
    assert report.loaded == len(model.state_dict()) - len(report.missing)
    assert not report.dropped
    back = revert(
        {n: t for n, t in model.state_dict().items() if n not in report.missing}, model.dialects[0]
    )
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in names.items()}


@pytest.mark.parametrize("size", SIZES)
def test_sam_files_load_at_full_size(tmp_path, size):
    from segment_anything import sam_model_registry

    names = manifest(f"sam_{size}")
    with torch.device("meta"):
        own = sam_model_registry[size]().state_dict()
        masks = MaskPredictor(
            8,
            grid=64,
            image_size=1024,
            canvas=256,
            levels=1,
            tokens=1,
            decoder=MaskDecoder(levels=1, upscale=4),
        )
    assert {n: t.shape for n, t in own.items()} == {n: t.shape for n, t in names.items()}
    encoder = SamEncoder(size, device="meta")
    report = loaded(encoder, names, tmp_path)
    assert not report.missing and report.loaded == len(encoder.state_dict())
    contents = unwrap(names, tmp_path / "sam.pth")
    report = load_contents(
        masks, contents, Source("sam.pth"), dialects=[sam_masks_dialect()], towers=["text"]
    )
    assert report.loaded == report.total - len(report.towers)
    assert all(name.startswith("text.") for name in report.towers)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_sam_computes_what_segment_anything_does(tmp_path, size):
    """Heads of each size and both kinds of layers, narrow."""
    from segment_anything.build_sam import _build_sam

    torch.manual_seed(0)
    numbers = SIZES[size]
    width = 4 * numbers["heads"]
    depth, whole = 2, [1]
    theirs = _build_sam(width, depth, numbers["heads"], whole).eval()
    torch.save(theirs.state_dict(), tmp_path / "sam.pth")
    small = {"width": width, "depth": depth, "heads": numbers["heads"], "whole": whole}
    encoder = SamEncoder(small, weights=str(tmp_path / "sam.pth"))
    assert not any(p.requires_grad for p in encoder.parameters())
    masks = MaskPredictor(
        8,
        grid=64,
        image_size=1024,
        canvas=256,
        levels=1,
        tokens=1,
        decoder=MaskDecoder(levels=1, upscale=4),
    ).eval()
    checkpoints.load(masks, tmp_path / "sam.pth", new=["text"], dialects=[sam_masks_dialect()])
    image = torch.randint(0, 256, (1, 3, 1024, 1024), dtype=torch.uint8)
    prompts = torch.randn(2, 1, 256)
    with torch.no_grad():
        ours = encoder(image)
        wanted = theirs.image_encoder(theirs.preprocess(image[0].float())[None])
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
        dense = theirs.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        low, _ = theirs.mask_decoder(
            image_embeddings=wanted,
            image_pe=theirs.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompts,
            dense_prompt_embeddings=dense.expand(2, -1, 64, 64),
            multimask_output=False,
        )
        found = masks([ours], prompts, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(found.logits, low[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("option", "to"),
    [("geopix_tiny", "geopix"), ("lisa_tiny", "lisa"), ("pixellm_tiny", "pixellm")],
)
def test_what_is_written_is_read_again(tmp_path, option, to):
    from rsvlm.export.formats import export

    def made(seed):
        torch.manual_seed(seed)
        variant = {"variant": "released", "neck_norm": "batch"} if to == "geopix" else {}
        if to == "geopix":
            variant["memory"] = {"variant": "released", "norm": "batch"}
        return build(option, tuning="lora", train_vision=False, **variant)

    one, other = made(0), made(1)
    assert one.first_id == other.first_id
    for name, parameter in one.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    if to != "geopix":
        other.vision.load_state_dict(one.vision.state_dict())
    files = export(one, to, tmp_path)
    assert all(file.is_file() for file in files)
    report = checkpoints.load(other, tmp_path, new=["lora_A", "lora_B"], towers=["vision"])
    assert all(".lora_" in name for name in report.fresh)
    states = torch.randn(2, len(one.seg_ids), one.lm.dim)
    torch.testing.assert_close(one.masks.prompts(states), other.masks.prompts(states))
    ids = torch.tensor([[5, one.first_id, one.first_id, 9]])
    embedded = one.embed_words(ids)
    torch.testing.assert_close(embedded, other.embed_words(ids))
    mask = torch.ones_like(ids)
    with torch.no_grad():  # LoRA is folded in, and the fresh one of the other does nothing
        for model in (one, other):
            model.eval()
        found = [
            model.new.logits(model.lm, model.lm.hidden(embedded, mask), model.first_id)
            for model in (one, other)
        ]
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)
