"""RS-CapRet's maths against FROMAGe's published code, through its published layout."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from golden_case import read_case
from model_options import build
from torch.nn import functional as F

from rsvlm import checkpoints
from rsvlm.losses.caption_retrieval import CaptionRetrievalLoss
from rsvlm.nn.packing import Embedded

GOLDEN = os.environ.get("RSVLM_GOLDEN")
CASE = Path(GOLDEN or "") / "fromage"
CLOSE = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
TRAINED = ("model.logit_scale", "model.text_", "model.visual_emb", "model.visual_fc", "ret_input")

pytestmark = pytest.mark.parity("fromage")


def towers(folder, case):
    """The two towers' own files, as their publishers lay them out."""
    from transformers import OPTConfig, OPTForCausalLM

    config, state = case.spec["config"], case.state()
    lm = OPTForCausalLM(OPTConfig(**config["opt"]))
    own = {n.removeprefix("model.lm."): v for n, v in state.items() if n.startswith("model.lm.")}
    own["lm_head.weight"] = own["model.decoder.embed_tokens.weight"]
    lm.load_state_dict(own)
    lm.save_pretrained(folder / "opt")
    sizes = config["clip"]
    prefix = "model.visual_model."
    vision = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    # A whole CLIP's file has the projection too, which is not read.
    width = sizes["hidden_size"]
    vision["visual_projection.weight"] = torch.zeros(sizes["projection_dim"], width)
    torch.save(vision, folder / "clip.pt")
    return {
        "arch": {
            "image_size": sizes["image_size"],
            "patch_size": sizes["patch_size"],
            "width": width,
            "layers": sizes["num_hidden_layers"],
            "heads": sizes["num_attention_heads"],
            "mlp_ratio": sizes["intermediate_size"] / width,
            "embed_dim": sizes["projection_dim"],
        },
        "activation": sizes["hidden_act"],
        "weights": folder / "clip.pt",
    }


@pytest.fixture(scope="module", params=["pruned", "whole"])
def loaded(request, tmp_path_factory):
    case = read_case(CASE)
    folder = tmp_path_factory.mktemp("fromage")
    config, state = case.spec["config"], case.state()
    vision = towers(folder, case)
    lm = {"weights": folder / "opt"}
    if request.param == "pruned":
        state = {n: v for n, v in state.items() if n.startswith(TRAINED)}
        allowed = ["vision", "lm"]
    else:
        vision.pop("weights")
        lm = {"size": {"model_type": "opt", **config["opt"]}}
        allowed = ["vision.tower.proj", "lm.model.lm_head"]  # not in the file; tied to the table
    torch.save({"state_dict": state}, folder / "pretrained_ckpt.pth.tar")
    torch.manual_seed(0)
    model = build(
        "rscapret",
        vision={"weights": None, **vision},
        bridge={"tokens": config["n_visual_tokens"]},
        lm={"size": None, **lm},
        shared_dim=config["shared_emb_dim"],
        ret_id=config["retrieval_token_idx"],
        caption_end="none",
        generation=None,
    ).eval()
    report = checkpoints.load(model, folder / "pretrained_ckpt.pth.tar", towers=allowed)
    assert report.dialect == "FROMAGe" and not report.fresh
    assert all(name.startswith(tuple(allowed)) for name in report.missing)
    return model, case


def ids_of(case):
    """The case's captions in our batches: padded with 0."""
    labels = case.tensors["labels"]
    return labels.masked_fill(labels == case.spec["config"]["pad_token_id"], 0)


def supervised(case, name):
    """Published logits and targets at the positions that the published loss looks at."""
    labels = case.tensors[f"{name}_labels"][:, 1:]
    kept = labels != -100
    return case.tensors[f"{name}_logits"][:, :-1][kept], labels[kept]


@pytest.mark.parametrize("kind", ["caption", "caption_prompt", "caption_concat"])
def test_fromage_captions_equal_the_published_code(loaded, kind):
    model, case = loaded
    prompt = torch.tensor(case.spec["config"]["prompt_ids"]).expand(len(ids_of(case)), -1)
    with torch.no_grad():
        tokens = model.vision(case.inputs()["input.pixel_values"])
        found = model.caption_pass(
            tokens,
            ids_of(case),
            together=kind == "caption_concat",
            prompt=prompt if kind == "caption_prompt" else None,
        )
    logits, targets = supervised(case, kind)
    torch.testing.assert_close(model.bridge(tokens), case.tensors[f"{kind}_visual"], **CLOSE)
    assert torch.equal(found["targets"], targets)
    torch.testing.assert_close(found["logits"], logits, **CLOSE)
    loss = F.cross_entropy(found["logits"], found["targets"])
    torch.testing.assert_close(loss, case.tensors[f"{kind}_loss"], **CLOSE)


@pytest.mark.parametrize("whole", [False, True], ids=["behind_a_cache", "in_one_pass"])
def test_fromage_retrieval_equals_the_published_code(loaded, whole):
    model, case = loaded
    expected = case.tensors
    model.lm.requires_grad_(whole)  # what learns in the language model needs the whole pass
    try:
        with torch.no_grad():
            found = model.text_pass(ids_of(case))
            prompt = torch.tensor(case.spec["config"]["prompt_ids"]).expand(len(ids_of(case)), -1)
            asked = model.text_pass(ids_of(case), prompt)
            features = model.encode_image(case.inputs()["input.pixel_values"], normalize=True)
            texts = model.encode_text(ids_of(case), normalize=True)
    finally:
        model.lm.requires_grad_(False)
    logits, targets = supervised(case, "retrieval")
    assert torch.equal(found["text_targets"], targets)
    torch.testing.assert_close(found["text_logits"], logits, **CLOSE)
    last = case.tensors["caption_len"].cumsum(0) - torch.arange(len(texts)) - 2
    torch.testing.assert_close(
        found["text_logits"][last], expected["retrieval_ret_logits"], **CLOSE
    )
    for ours in (found["text_features"], texts):
        torch.testing.assert_close(ours, expected["retrieval_text"], **CLOSE)
    loss = F.cross_entropy(found["text_logits"], found["text_targets"])
    torch.testing.assert_close(loss, expected["retrieval_loss"], **CLOSE)
    loss = F.cross_entropy(asked["text_logits"], asked["text_targets"])
    torch.testing.assert_close(loss, expected["retrieval_prompt_loss"], **CLOSE)
    torch.testing.assert_close(asked["text_features"], expected["retrieval_prompt_text"], **CLOSE)
    scale = model.logit_scale.exp().detach()
    torch.testing.assert_close(features * scale, expected["retrieval_visual"], **CLOSE)
    torch.testing.assert_close(scale * features @ texts.T, expected["logits_per_image"], **CLOSE)


def test_fromage_losses_and_gradients_equal_the_published_code(loaded):
    model, case = loaded
    expected = case.tensors
    batch = SimpleNamespace(images=case.inputs()["input.pixel_values"], input_ids=ids_of(case))
    model.zero_grad()
    losses = CaptionRetrievalLoss()(model(batch), batch)
    torch.testing.assert_close(losses["caption"], expected["caption_loss"], **CLOSE)
    torch.testing.assert_close(losses["text"], expected["retrieval_loss"], **CLOSE)
    both = (expected["contrastive_text_loss"] + expected["contrastive_image_loss"]) / 2
    torch.testing.assert_close(losses["contrastive"], both, **CLOSE)
    total = sum(losses.values())
    torch.testing.assert_close(total, expected["train_loss"], **CLOSE)
    total.backward()
    for ours, name in (
        (model.ret.row.grad[0], "grad_ret_row"),
        (model.text_map.weight.grad, "grad_text_fc"),
        (model.bridge.proj.weight.grad, "grad_visual_embeddings"),
        (model.logit_scale.grad, "grad_logit_scale"),
    ):
        torch.testing.assert_close(ours, expected[name], **CLOSE)
    assert model.ret.head is None and all(p.grad is None for p in model.lm.parameters())


def test_fromage_ret_row_is_rescaled_as_published(loaded):
    model, case = loaded
    before = model.ret.row.detach().clone()
    model.ret.rescale(model.lm, model.ret_id)
    torch.testing.assert_close(
        model.ret.row.detach()[0], case.tensors["ret_row_normalised"], **CLOSE
    )
    with torch.no_grad():
        model.ret.row.copy_(before)


def started(model, case):
    """Image and prompt, before anything is written."""
    prompt = torch.tensor(case.spec["config"]["prompt_ids"]).expand(len(ids_of(case)), -1)
    with torch.no_grad():
        visual = model.bridge(model.vision(case.inputs()["input.pixel_values"]))
        embeds = torch.cat([visual, model.embed_words(prompt)], dim=1)
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    return Embedded(embeds, mask, mask)


def test_fromage_greedy_text_equals_the_published_code(loaded):
    model, case = loaded
    expected = case.tensors
    never = [model.ret_id + 1]  # the published loop has no end
    for name, options in (
        ("generate_ids", {}),
        ("generate_ret_ids", {"ret_scale": 3.0, "min_words": 2}),
    ):
        count = expected[name].shape[1]
        rows = model.write(started(model, case), ends=never, max_new_tokens=count, **options)
        assert [row[0].ids for row in rows] == expected[name].tolist()
    # The features and logits of the last step, over all that was written before it.
    embedded = started(model, case)
    with torch.no_grad():
        words = model.embed_words(expected["generate_ids"][:, :-1])
        embeds = torch.cat([embedded.inputs_embeds, words], dim=1)
        hidden = model.lm.hidden(embeds, torch.ones(embeds.shape[:2], dtype=torch.long))
        features = F.normalize(model.text_map(hidden), dim=-1)
        logits = model.ret.logits(model.lm, hidden[:, -1], model.ret_id)
    torch.testing.assert_close(features, expected["generate_embeddings"], **CLOSE)
    torch.testing.assert_close(logits, expected["generate_logits"], **CLOSE)
