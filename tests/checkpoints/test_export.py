"""Exports, judged by the libraries that they are for."""

from __future__ import annotations

import json

import pytest
import torch

from rsvlm import checkpoints
from rsvlm.encoders.clip.model import CLIP, clip, tokenizer
from rsvlm.encoders.clip.towers import TextTransformer, VisionTransformer
from rsvlm.errors import UserError
from rsvlm.export.formats import export

# Measured: at most 1e-6 off; the libraries sum in another order.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
TEXTS = ["An aerial photo of 12 PLANES, parked.", "naïve — Übergröße's  “quay” 日本", "a", ""]


@pytest.fixture
def small(scramble):
    """A small CLIP with the whole vocabulary."""

    def build(activation: str | None) -> CLIP:
        visual = VisionTransformer(32, 8, width=32, layers=3, heads=4, embed_dim=24)
        text = TextTransformer(49408, 77, width=16, layers=2, heads=2, embed_dim=24)
        mean = (0.4, 0.5, 0.6)
        return scramble(CLIP(visual, text, arch="tiny", activation=activation, mean=mean))

    return build


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_open_clip_loads_it(small, tmp_path, activation):
    import open_clip

    model = small(activation)
    written = export(model, "open_clip", tmp_path)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    theirs.eval()
    images, ids = torch.randn(3, 3, 32, 32), open_clip.tokenize(TEXTS)
    assert torch.equal(ids, tokenizer("tiny")(TEXTS))
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode_image(images), model.encode_image(images), **CLOSE)
        torch.testing.assert_close(theirs.encode_text(ids), model.encode_text(ids), **CLOSE)
    assert tuple(preprocess.transforms[-1].mean) == model.mean
    assert preprocess.transforms[0].size == 32

    again = small(None)  # the configuration beside the file says the activation
    checkpoints.load(again, tmp_path)
    assert again.activation == activation
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in model.state_dict().items())


def test_open_clip_loads_a_resnet(ours, scramble, tmp_path):
    import open_clip

    model = scramble(ours("resnet", "quick_gelu"))
    export(model, "open_clip", tmp_path)
    theirs = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode_image(images), model.encode_image(images), **CLOSE)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_transformers_loads_it(small, tmp_path, activation):
    transformers = pytest.importorskip("transformers")
    model = small(activation)
    written = export(model, "hf_clip", tmp_path)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}
    theirs, info = transformers.CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    words = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    # transformers cleans no Unicode, so its vocabulary is tried on what both take alike.
    ids = words(TEXTS[:1] + TEXTS[2:], padding="max_length", return_tensors="pt").input_ids
    own = tokenizer("tiny")(TEXTS[:1] + TEXTS[2:])
    for theirs_row, our_row in zip(ids, own, strict=True):
        end = int(our_row.argmax()) + 1
        assert torch.equal(theirs_row[:end], our_row[:end])
        assert set(theirs_row[end:].tolist()) <= {49407}
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        out = theirs.eval()(input_ids=ids, pixel_values=images)
        image, text = model.encode_image(images, normalize=True), model.encode_text(own, True)
    torch.testing.assert_close(out.image_embeds, image, **CLOSE)
    torch.testing.assert_close(out.text_embeds, text, **CLOSE)
    torch.testing.assert_close(
        out.logits_per_image, model.logit_scale.exp() * image @ text.T, atol=1e-4, rtol=1e-4
    )
    again = small(None)
    checkpoints.load(again, tmp_path)
    assert again.activation == activation
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in model.state_dict().items())


def test_transformers_preprocesses_alike(small, tmp_path):
    pytest.importorskip("transformers")
    import numpy as np
    from PIL import Image
    from transformers import AutoImageProcessor

    from rsvlm.data.transforms import Preprocess

    model = small("gelu")
    export(model, "hf_clip", tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    theirs = processor(image, return_tensors="pt").pixel_values
    ours = model._normalise(Preprocess(32)(image)[None])
    # transformers crops the centre with another rounding; sizes here leave an even margin.
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_exported_says_why(ours, small, tmp_path):
    with pytest.raises(UserError, match=r"no export to 'open-clip'.*open_clip"):
        export(small("gelu"), "open-clip", tmp_path)
    with pytest.raises(UserError, match="activation is not set"):
        export(small(None), "hf_clip", tmp_path)
    with pytest.raises(UserError, match=r"stem=patch"):
        export(clip("tiny", activation="gelu"), "open_clip", tmp_path)
    with pytest.raises(UserError, match="no ResNet tower"):
        export(ours("resnet", "gelu"), "hf_clip", tmp_path)
    adapted = small("gelu")
    adapted.visual.lora = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"no place for visual\.lora\.weight"):
        export(adapted, "open_clip", tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_are_readable_text(small, tmp_path):
    export(small("gelu"), "hf_clip", tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    assert len(vocab) == 49408 and vocab["<|endoftext|>"] == 49407
